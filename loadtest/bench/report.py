"""Draws the rows of a run as tables.

What must not live here: figures that are not in the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from loadtest.bench.bodies import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from loadtest.bench.results import Row

COLUMNS = (
    ("µs/request", "cpu_us_per_request", 0),
    ("µs/chunk burst", "cpu_us_per_chunk_burst", 1),
    ("paced", "cpu_us_per_chunk_paced", 1),
    ("chunks/s vs direct", "ratio_burst", 2),
    ("added TTFT p50 ms", "added_ttft_p50_ms", 2),
    ("p99", "added_ttft_p99_ms", 2),
    ("PSS MB", "pss_mb", 0),
)
"""Heading, figure, decimals."""
LONG_COLUMNS = (
    ("tokens", "tokens", 0),
    ("body MB", "body_mb", 2),
    ("CPU ms", "cpu_ms", 2),
    ("others delayed by ms", "other_stream_delay_ms", 1),
)
STREAM_COLUMNS = (
    ("tokens/s", "messages_s", 0),
    ("to bare", "ratio", 2),
    ("µs/token", "cpu_us_per_message", 1),
    ("to bare", "cpu_ratio", 2),
    ("tokens/message", "tokens_per_grpc_message", 1),
    ("added TTFT ms", "added_ttft_p50_ms", 2),
    ("server core", "server_core_ratio", 2),
    ("load core", "load_core_ratio", 2),
)
MEMORY = (("plain requests", "memory"), ("beside slow streams", "memory_slow"))


def print_report(console: Console, rows: Sequence[Row], noise: Mapping[str, float]) -> None:
    """Print everything that was measured."""
    console.print(speed_table(rows))
    for table in (long_table(rows), memory_table(rows)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    for row in rows:
        if row.why:
            console.print(f"{row.name}: {row.why}", style="yellow", highlight=False)
    if noise:
        parts = ", ".join(f"{key.partition('.')[0]} {value:.0%}" for key, value in noise.items())
        console.print(f"Noise: the direct baselines of this run lie apart by {parts} of their median.", style="dim")


def print_streams_report(console: Console, rows: Sequence[Row], noise: float) -> None:
    """Print what was measured of streams over gRPC."""
    table = _table("server", *(heading for heading, _, _ in STREAM_COLUMNS), "failed")
    for row in rows:
        table.add_row(row.name, *(_cell(row, key, decimals) for _, key, decimals in STREAM_COLUMNS), f"{row.failed:,}")
    console.print(table)
    console.print()
    console.print(f"Noise: the bare server's bursts lie apart by {noise:.0%} of their median.", style="dim")


def speed_table(rows: Sequence[Row]) -> Table:
    """CPU, throughput, latency and memory, a router a line; repeats' smallest and largest value in parentheses."""
    table = _table("router", *(heading for heading, _, _ in COLUMNS), "failed")
    for row in rows:
        if row.figures:
            cells = [_cell(row, key, decimals) for _, key, decimals in COLUMNS]
            table.add_row(row.name, *cells, f"{row.failed:,}")
        else:
            table.add_row(row.name, *["-"] * len(COLUMNS), "-")
    return table


def long_table(rows: Sequence[Row]) -> Table:
    """What long prompts cost, and what they do to others."""
    table = _table("router", "text", *(heading for heading, _, _ in LONG_COLUMNS))
    for row in rows:
        for kind in KINDS:
            if f"long.{kind}.cpu_ms" in row.figures:
                cells = [_cell(row, f"long.{kind}.{key}", decimals) for _, key, decimals in LONG_COLUMNS]
                table.add_row(row.name, kind, *cells)
    return table


def memory_table(rows: Sequence[Row]) -> Table:
    """Memory after few and after many requests."""
    table = _table("router", "memory", "first MB", "last MB", "growth")
    for row in rows:
        for what, name in MEMORY:
            if f"{name}.growth_ratio" in row.figures:
                first, last = (_cell(row, f"{name}.{key}", 1) for key in ("first_pss_mb", "last_pss_mb"))
                table.add_row(row.name, what, first, last, f"{row.figures[f'{name}.growth_ratio']:+.1%}")
    return table


def _cell(row: Row, key: str, decimals: int) -> str:
    if key not in row.figures:
        return "-"
    text = f"{row.figures[key]:,.{decimals}f}"
    low, high = (f"{value:,.{decimals}f}" for value in row.spread[key])
    return text if low == high else f"{text} ({low}..{high})"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="left" if column in {"text", "memory"} else "right")
    return table
