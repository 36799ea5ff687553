"""`longreach bench prefix`: what prefix caches and prefix routing save, measured on a cluster of its own.

What must not live here: measuring (loadtest/prefix).
"""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.bench_route import JsonFileOption

if TYPE_CHECKING:
    from rich.console import Console

    from loadtest.prefix.plan import Plan
    from loadtest.prefix.progress import Watcher

PLAIN_WIDTH = 170
"""Characters; the widest table fits."""
PLAIN_LINES = 8
"""Of progress in each part, where there is no terminal to draw a bar on."""
PREFIX_TOKENS_MIN = 512
"""A shorter prompt is not worth fetching anywhere."""
REQUESTS_MAX = 5_000
"""Turns of one policy; a typing error must not become a day's work."""


def prefix(
    json: JsonFileOption = None,
    part: Annotated[str, typer.Option("--part", help="What to measure: ttft, routing or all.", metavar="PART")] = "all",
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = "demo",
    dtype: Annotated[str, typer.Option("--dtype", help="As pools[].engine.dtype.", metavar="TYPE")] = "auto",
    prefix_tokens: Annotated[
        int, typer.Option("--prefix-tokens", min=PREFIX_TOKENS_MIN, help="Length of the prompt whose TTFT is measured.")
    ] = 3_000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="Prompts of which it is measured.")] = 5,
    tier: Annotated[
        str, typer.Option("--tier", help="Compare policies with the Redis tier off, on or both.", metavar="STATE")
    ] = "both",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="A routing policy to compare, repeatable; default: round-robin, session, prefix, balanced."
        ),
    ] = None,
    tenants: Annotated[int, typer.Option("--tenants", min=1, max=100, help="Each has a document of its own.")] = 6,
    conversations: Annotated[int, typer.Option("--conversations", min=1, help="Of each tenant.")] = 2,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Of each conversation.")] = 4,
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", min=256, help="About the length of each document.")
    ] = 2_000,
    turn_tokens: Annotated[int, typer.Option("--turn-tokens", min=1, help="About the length of each question.")] = 60,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=8, help="Turns asked at a time.")] = 2,
    cache_share: Annotated[
        list[float] | None,
        typer.Option(
            "--cache-share",
            min=0.1,
            max=100.0,
            help="KV cache of each replica, as a share of all conversations' tokens; from 1.2 on nothing is evicted. "
            "Repeatable; default: 0.6.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every word and of the turns' order.")] = 1,
) -> None:
    """Start two replicas; measure TTFT cold, cached and from Redis, and compare routing policies (about 15 minutes)."""
    from cluster.environment import read_environment
    from cluster.local.interrupt import InterruptedBySignal, raising
    from loadtest.prefix.bench import PrefixBench
    from loadtest.prefix.plan import CACHE_SHARE, Part, Plan, Tier
    from loadtest.prefix.report import print_report
    from loadtest.prefix.workload import Shape

    console, progress = consoles()
    plan = Plan(
        model=model,
        dtype=one_of(dtype, "--dtype", ("auto", "bfloat16", "float16", "float32")),
        part=Part(one_of(part, "--part", tuple(Part))),
        prefix_tokens=prefix_tokens,
        repeats=repeats,
        shape=Shape(
            tenants=tenants,
            conversations=conversations,
            turns=turns,
            document_words=document_tokens,
            turn_words=turn_tokens,
        ),
        policies=_policies(policy),
        tier=Tier(one_of(tier, "--tier", tuple(Tier))),
        concurrency=concurrency,
        cache_shares=tuple(dict.fromkeys(cache_share or (CACHE_SHARE,))),
        seed=seed,
    )
    _check(plan, json)
    started_s = time.monotonic()
    try:
        with raising(), drawn(progress) as watcher:
            report = PrefixBench(plan, environment=read_environment(), console=progress, watcher=watcher).run()
    except InterruptedBySignal as signal:
        raise typer.Exit(signal.exit_status) from None
    report["took_s"] = round(time.monotonic() - started_s, 1)
    tell(console, report, json, print_report)


def consoles() -> tuple[Console, Console]:
    """For tables, on standard output, and for progress, on standard error."""
    from rich.console import Console

    console = Console()
    # A file or a pipe has no width of its own; the default would break every line in two.
    return console if console.is_terminal else Console(width=PLAIN_WIDTH), Console(stderr=True)


def tell(
    console: Console,
    report: dict[str, Any],
    json: Path | None,
    print_report: Callable[[Console, dict[str, Any]], None],
) -> None:
    """A report with its `took_s`: as JSON to the file, or instead of tables for `-`, and as tables."""
    text = json_format.dumps(report, indent=2)
    if str(json) == "-":
        typer.echo(text)
        return
    if json is not None:
        json.write_text(f"{text}\n", encoding="utf-8")
    print_report(console, report)
    console.print(f"Took {report['took_s']:.0f} s.", style="dim", highlight=False)


@contextmanager
def drawn(console: Console, *, unit: str = "requests") -> Iterator[Watcher]:
    """A watcher that draws a progress bar on `console` while a part is measured, and nothing while a cluster starts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )

    class Drawing:
        """One bar a part: the cluster's own display and a bar cannot be there at the same time."""

        def __init__(self) -> None:
            self._progress: Progress | None = None
            self._what = ""
            self._steps = 1
            self._done = -1

        def begins(self, what: str, steps: int) -> None:
            """A part of so many steps begins."""
            self.ends()
            self._what, self._steps, self._done = what, steps, -1
            if not console.is_terminal:
                console.print(f"{what}: {steps} {unit}", highlight=False)
                return
            # Twice a second: drawing shares the cores with the engines.
            self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
            self._progress.add_task(what, total=steps)
            self._progress.start()

        def step(self, what: str) -> None:
            """One step begins; those before it are over, or nearly."""
            self._done += 1
            if not console.is_terminal and self._done and self._done % max(self._steps // PLAIN_LINES, 1) == 0:
                console.print(f"  {self._done} of {self._steps}, now {what}", highlight=False)
            if self._progress is not None:
                task = self._progress.task_ids[0]
                self._progress.update(task, completed=self._done, description=f"{self._what}: {what}")

        def ends(self) -> None:
            """The part is over."""
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    drawing = Drawing()
    try:
        yield drawing
    finally:
        drawing.ends()


def one_of(value: str, option: str, allowed: tuple[str, ...]) -> str:
    """`value`, which must be one of `allowed`.

    Raises:
        BadParameter: it is not.
    """
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=f"'{option}'")
    return value


def _policies(names: list[str] | None) -> tuple[str, ...]:
    from cluster.core.routing import Policy
    from loadtest.prefix.routing import POLICIES

    if not names:
        return POLICIES
    return tuple(dict.fromkeys(one_of(name, "--policy", tuple(Policy)) for name in names))


def _check(plan: Plan, json: Path | None) -> None:
    """Refuse at once what would be refused after minutes.

    Raises:
        BadParameter: an option's value.
    """
    if plan.shape.requests > REQUESTS_MAX:
        raise typer.BadParameter(
            f"{plan.shape.requests:,} turns a policy are over {REQUESTS_MAX:,}",
            param_hint="'--tenants', '--conversations', '--turns'",
        )
    check_json_file(json)


def check_json_file(json: Path | None) -> None:
    """Refuse at once a file that could not be written.

    Raises:
        BadParameter: its folder is not there.
    """
    if json is not None and str(json) != "-" and not json.absolute().parent.is_dir():
        raise typer.BadParameter(f"{json.absolute().parent} is not a folder", param_hint="'--json'")
