"""`longreach bench loadclient`: what the load client itself can send and time, and how exactly.

What must not live here: measuring (loadtest/bench/loadclient.py).
"""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.files import write

if TYPE_CHECKING:
    from rich.table import Table

LINES = {
    "chunks_per_s": ("chunks a second, paced", ",.0f"),
    "cpu_ratio": ("of a core for them", ".2f"),
    "chunks_per_cpu_s": ("a whole core at that cost", ",.0f"),
    "full_error_p99_ms": ("timing error p99, ms", ".3f"),
    "half_chunks_per_s": ("chunks a second at half of it", ",.0f"),
    "half_error_p50_ms": ("timing error p50, ms", ".3f"),
    "half_error_p99_ms": ("timing error p99, ms", ".3f"),
    "timer_error_p99_ms": ("bare timer loop p99, ms", ".3f"),
    "error_over_timer_ms": ("error over the timer's, ms", ".3f"),
    "burst_chunks_per_s": ("chunks a second, unpaced", ",.0f"),
    "others_ratio": ("other programs, of these cores", ".2f"),
    "failed": ("answers not as they should be", ",.0f"),
}


def loadclient(
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Also write everything to this file, as JSON; - prints it instead.", metavar="FILE"
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="Default: 3.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every step in a second, to see that it works; figures mean nothing.")
    ] = False,
) -> None:
    """Measure the load client: chunks a second on one core, and how exactly it times them (about 2 minutes)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from cluster.environment import read_environment
    from loadtest.bench import native
    from loadtest.bench.loadclient import QUICK, Plan, measure
    from loadtest.bench.machine import pick_cores

    plan = QUICK if quick else Plan()
    programs = native.build(read_environment().cache_home / "bench")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting")
        found = measure(
            programs.engine,
            pick_cores(),
            plan if repeats is None else replace(plan, repeats=repeats),
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    text = json_format.dumps(found, indent=2)
    if str(json) == "-":
        typer.echo(text)
        return
    if json is not None:
        write(json, f"{text}\n")
    console = Console()
    console.print(_table(found["figures"]))
    console.print(f"\n{_verdict(found)}", highlight=False, soft_wrap=True)


def _table(figures: Mapping[str, Mapping[str, float]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for column in ("median", "smallest", "largest"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, (label, form) in LINES.items():
        row = figures[name]
        table.add_row(label, *(format(row[column], form) for column in ("median", "smallest", "largest")))
    return table


def _verdict(found: Mapping[str, Any]) -> str:
    targets = found["targets"]
    words = {True: "met", False: "missed"}
    shared = " This machine gave one core to engine and client alike, so figures say little." * found["shares_a_core"]
    return (
        f"Target, {targets['chunks_per_s']:,} chunks a second on one core: {words[targets['chunks_met']]}. "
        f"Target, at half of it a p99 within {targets['error_over_timer_ms']:g} ms of a bare timer loop's: "
        f"{words[targets['error_met']]}.{shared}"
    )
