"""`longreach bench gateway`: what the gateway costs, side by side with other routers.

What must not live here: measuring (loadtest/bench).
"""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cluster.environment import Environment
    from loadtest.bench.gateway import Watcher
    from loadtest.bench.machine import Cores

PLAIN_WIDTH = 170
"""Characters; the widest table with its spreads fits."""


def gateway(
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Also write the rows to this file, as JSON; - prints them instead of the tables.",
            metavar="FILE",
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer", help="Another router to measure: vllm-router, sglang-router, haproxy, nginx; repeatable."
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", min=1, help="Rounds over all routers; default: 3.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Also how memory grows up to request 100,000; some minutes a router.")
    ] = False,
    traces: Annotated[
        bool,
        typer.Option(
            "--traces",
            help="The gateway without tracing and with it: 10% and 100% of requests to a collector, 100% to one that"
            " is slow or gone.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every step in a few seconds, to see that it works; figures mean nothing.")
    ] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", help="Folder with a tokenizer.json; default: the demo model's, else the tiny one's."
        ),
    ] = None,
) -> None:
    """Measure the gateway's CPU, added latency and memory in front of fake engines, next to other routers."""
    from rich.console import Console

    from cluster.environment import read_environment
    from cluster.local.interrupt import InterruptedBySignal, raising
    from loadtest.bench.gateway import GatewayBench
    from loadtest.bench.machine import pick_cores
    from loadtest.bench.measure import QUICK, Plan
    from loadtest.bench.report import print_report
    from loadtest.bench.results import as_json

    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        # A file or a pipe has no width of its own; the default would break every line in two.
        console = Console(width=PLAIN_WIDTH)
    environment = read_environment()
    plan = QUICK if quick else Plan()
    cache = environment.cache_home / "bench"
    cores = pick_cores()
    started_s = time.monotonic()
    try:
        with raising(), drawn(progress) as watcher:
            outcome = GatewayBench(
                plan=plan if repeats is None else replace(plan, repeats=repeats),
                cores=cores,
                cache=cache,
                tokenizer=tokenizer or tokenizer_folder(environment, cache),
                variables=environment.variables,
                peer_names=peer or [],
                with_memory=memory,
                with_traces=traces,
                watcher=watcher,
            ).run()
    except InterruptedBySignal as signal:
        raise typer.Exit(signal.exit_status) from None
    rows = json_format.dumps([as_json(row) for row in outcome.rows], indent=2)
    if str(json) == "-":
        typer.echo(rows)
        return
    if json is not None:
        json.write_text(f"{rows}\n", encoding="utf-8")
    print_report(console, outcome.rows, outcome.noise)
    console.print(f"{_where(cores)} Took {time.monotonic() - started_s:.0f} s.", style="dim", highlight=False)


@contextmanager
def drawn(console: Console) -> Iterator[Watcher]:
    """A watcher that draws a progress bar on `console`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from loadtest.bench.gateway import Watcher

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Twice a second: drawing shares a core with the engines.
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("preparing", total=1)

        class Drawing(Watcher):
            """Moves the bar."""

            def begins(self, steps: int) -> None:
                progress.update(task, total=steps)

            def step(self, router: str, what: str) -> None:
                progress.update(task, advance=1, description=f"{router}: {what}")

            def says(self, line: str) -> None:
                progress.update(task, description=line)

        yield Drawing()


def _where(cores: Cores) -> str:
    if cores.is_shared:
        return "This machine has one core: engines, load and router shared it, so ratios and latencies say little."
    return f"Router on core {cores.router}; engines, load and Valkey on core {cores.load}."


def tokenizer_folder(environment: Environment, cache: Path) -> Path:
    """A real model's tokenizer where one is here, else the tiny model's, written into `cache`."""
    from cluster.core.errors import ModelStoreError
    from cluster.models.opening import open_store
    from cluster.models.tiny import tiny_tokenizer

    try:
        return open_store(environment).path("demo")
    except ModelStoreError:
        folder = cache / "tokenizer"
        folder.mkdir(parents=True, exist_ok=True)
        tiny_tokenizer().write(folder)
        return folder
