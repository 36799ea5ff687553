"""`longreach chaos`: what faults cost, on a cluster of its own.

What must not live here: the faults and their cost (loadtest/chaos).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_frame import Frame, JsonFileOption
from cluster.cli.target import JsonOption, print_json

app = typer.Typer(help="Break a cluster of its own, and count what it costs.", no_args_is_help=True)
ALL = "all"


@app.command("list")
def faults(json: JsonOption = False) -> None:
    """List the faults."""
    from loadtest.chaos.faults import FAULTS

    rows = [{"name": fault.name, "does": fault.does, "lacks": fault.lacks()} for fault in FAULTS]
    if json:
        print_json(rows)
        return
    width = max(len(fault.name) for fault in FAULTS)
    for row in rows:
        lacks = f" (not here: {row['lacks']})" if row["lacks"] else ""
        typer.echo(f"{row['name']:<{width}}  {row['does']}{lacks}")


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Faults by name, or `all`.", metavar="NAME…")],
    json: JsonFileOption = None,
    table: Annotated[
        Path | None, typer.Option("--markdown", help="Write the table into this file as Markdown.", metavar="FILE")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, max=100, help="Requests a second of the steady load.")
    ] = 0.7,
    before: Annotated[float, typer.Option("--before", min=1, max=600, help="Seconds of load before each fault.")] = 10,
    after: Annotated[float, typer.Option("--after", min=1, max=600, help="Seconds of load after it is over.")] = 10,
) -> None:
    """Make faults under load on two pools of two replicas, and compare every answer (about half an hour for all)."""
    from cluster.environment import read_environment
    from cluster.local.interrupt import run as run_loop
    from loadtest.chaos.bench import Suite, chaos_cluster
    from loadtest.chaos.faults import FAULTS
    from loadtest.chaos.plan import Plan
    from loadtest.chaos.report import markdown, print_report

    known = {fault.name: fault for fault in FAULTS}
    chosen = list(known) if ALL in names else names
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}, {ALL}", param_hint="NAME")
    frame = Frame(json)
    if table is not None:
        table.touch()
    plan = Plan(rate_per_s=rate, before_s=before, after_s=after)
    with (
        frame.measuring(unit="steps") as watcher,
        chaos_cluster(environment=read_environment(), console=frame.progress) as target,
    ):
        outcomes = run_loop(Suite(target, plan, watcher).measure([known[name] for name in chosen]))
    rows = [outcome.row() for outcome in outcomes]
    if table is not None:
        table.write_text(markdown(rows), encoding="utf-8")
    frame.tell({"setup": plan.as_data(), "rows": rows}, print_report)
    if not all(outcome.is_clean and not outcome.missed for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def soak(
    json: JsonFileOption = None,
    duration: Annotated[float, typer.Option("--duration", min=60, help="Seconds of load.")] = 3600,
    every: Annotated[float, typer.Option("--every", min=10, help="Seconds from one fault to the next.")] = 60,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, max=100, help="Requests a second of the steady load.")
    ] = 0.7,
    seed: Annotated[int, typer.Option("--seed", help="Of the faults that are drawn.")] = 1,
) -> None:
    """Load for an hour with a drawn fault a minute; compare every answer, and show whether anything grows."""
    from cluster.environment import read_environment
    from cluster.local.interrupt import run as run_loop
    from loadtest.chaos.bench import chaos_cluster
    from loadtest.chaos.faults import FAULTS
    from loadtest.chaos.plan import Plan
    from loadtest.chaos.report import print_soak
    from loadtest.chaos.soak import soak as run_soak

    frame = Frame(json)
    drawable = [fault for fault in FAULTS if fault.is_short and not fault.lacks()]
    plan = Plan(rate_per_s=rate)
    with (
        frame.measuring(unit="faults") as watcher,
        chaos_cluster(environment=read_environment(), console=frame.progress) as target,
    ):
        work = run_soak(target, drawable, plan, watcher, seconds=duration, every_s=every, seed=seed)
        found = run_loop(work)
    report = {
        "setup": plan.as_data() | {"duration_s": duration, "every_s": every, "seed": seed},
        "rows": [found.outcome.row()],
        "faults": dict(found.faults),
        "growth": found.growth(),
    }
    frame.tell(report, print_soak)
    # A fault that came to no end has shown nothing.
    if found.outcome.missed or not found.outcome.is_clean:
        raise typer.Exit(1)
