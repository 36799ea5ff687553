"""`longreach bench route`: what a routing decision costs.

What must not live here: the timing (loadtest/bench/route.py).
"""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.bench_frame import JsonFileOption

if TYPE_CHECKING:
    from rich.table import Table

    from loadtest.bench.residency import IndexTiming

SeedOption = Annotated[int, typer.Option(help="For loads, prefixes and ties; the same seed, the same decisions.")]


def route(json: JsonFileOption = None, seed: SeedOption = 1) -> None:
    """Time routing decisions at 2 to 1,000 endpoints and 1k to 200k prompt tokens, and prefix lookups (about 25 s)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from loadtest.bench.residency import measure_index
    from loadtest.bench.route import measure_routes

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("timing decisions")
        timings = measure_routes(seed, progress=lambda done, total: bar.update(task, completed=done, total=total))
        bar.update(task, description="timing lookups", completed=None, total=None)
        lookups = measure_index(seed)
    rows = json_format.dumps([*(timing.row() for timing in timings), *(timing.row() for timing in lookups)], indent=2)
    if json is not None and str(json) == "-":
        sys.stdout.write(f"{rows}\n")
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("endpoints", "prompt tokens", "prefix", "scored", "p50 µs", "p99 µs", "mean µs", "update µs"):
        table.add_column(column, justify="right", no_wrap=True)
    for timing in timings:
        table.add_row(
            f"{timing.endpoints:,}",
            f"{timing.prompt_tokens:,}",
            "yes" if timing.with_prefix else "no",
            str(timing.candidates),
            f"{timing.p50_us:.1f}",
            f"{timing.p99_us:.1f}",
            f"{timing.mean_us:.1f}",
            f"{timing.update_us:.1f}",
        )
    Console().print(table)
    Console().print()
    Console().print(_lookup_table(lookups))
    if json is not None:
        json.write_text(f"{rows}\n", encoding="utf-8")


def _lookup_table(lookups: list[IndexTiming]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("holders", "prompt tokens", "chunks", "lookup µs", "p99 µs", "of it hashing µs", "bytes a chunk"):
        table.add_column(column, justify="right", no_wrap=True)
    for timing in lookups:
        table.add_row(
            f"{timing.replicas:,}",
            f"{timing.prompt_tokens:,}",
            f"{timing.index_chunks:,}",
            f"{timing.index_lookup_us:,.1f}",
            f"{timing.index_lookup_p99_us:,.1f}",
            f"{timing.index_hash_us:,.1f}",
            f"{timing.index_bytes_per_chunk:.1f}",
        )
    return table
