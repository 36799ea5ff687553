"""The KV blocks in Redis as tables.

What must not live here: reading them (cluster/state/blocks.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.core.tier.contents import Row
from cluster.local.tier_counters import ReplicaCounters
from cluster.state.blocks import ServerFigures

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
UNIT = 1024
COUNTERS = ("below", "asked", "found", "late", "loaded_blocks", "stored_blocks")
"""Of the replicas' counters; `--json` has all."""
FINGERPRINT_DIGITS = 8
"""Enough to tell a few apart; `--json` has all."""
UNKNOWN_MODEL = "unknown"


def stats_view(
    url: str, figures: ServerFigures, rows: Sequence[Row], replicas: Sequence[ReplicaCounters]
) -> RenderableType:
    """The server's figures, the rows, and what replicas have done."""
    limit = f" of {size(figures.max_bytes)}" if figures.max_bytes else ", no maxmemory: it may fill the machine"
    asked = figures.hits + figures.misses
    ratio = f" ({figures.hits / asked:.0%})" if asked else ""
    head = Text(f"{url}: {size(figures.used_bytes)} used{limit} · {figures.policy}\n", no_wrap=False)
    head.append(
        f"since its start: {figures.hits:,} hits{ratio}, {figures.misses:,} misses, {figures.evicted_keys:,} evicted, "
        f"{figures.expired_keys:,} expired"
    )
    parts: list[RenderableType] = [head, rows_view(rows) if rows else Text("No blocks")]
    return Group(*parts, *((Text(""), _replicas(replicas)) if replicas else ()))


def rows_view(rows: Sequence[Row]) -> Table:
    """One line for each model and tenant, and their sum."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("model", "dtype", "fingerprint", "tenant"):
        table.add_column(column)
    for column in ("blocks", "tokens", "size", "share"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            escape(", ".join(row.models) or UNKNOWN_MODEL),
            escape(row.dtype),
            row.fingerprint[:FINGERPRINT_DIGITS],
            escape(row.tenant) if row.tenant is not None else row.tag,
            f"{row.blocks:,}",
            f"{row.tokens:,}" if row.tokens is not None else "?",
            size(row.size_bytes),
            f"{row.share_ratio:.0%}",
        )
    if len(rows) > 1:
        tokens = [row.tokens for row in rows]
        known = sum(each for each in tokens if each is not None)
        table.add_row(
            *("total", "", "", ""),
            f"{sum(row.blocks for row in rows):,}",
            f"{known:,}{'+' if None in tokens else ''}",
            size(sum(row.size_bytes for row in rows)),
            f"{sum(row.share_ratio for row in rows):.0%}",
            style="bold",
        )
    return table


def _replicas(replicas: Sequence[ReplicaCounters]) -> Table:
    """Prompts that each replica asked about and found, and blocks that it moved, since it started."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("replica", "pool"):
        table.add_column(column)
    for column in COUNTERS:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("")
    for replica in replicas:
        numbers = [replica.counters.get(name) for name in COUNTERS]
        table.add_row(
            replica.replica_id,
            replica.pool,
            *("-" if number is None else f"{number:,}" for number in numbers),
            escape(replica.error or ("breaker open" if replica.counters.get("breaker_open") else "")),
        )
    return table


def size(size_bytes: float) -> str:
    """Bytes as people read them."""
    for unit in UNITS[:-1]:
        if size_bytes < UNIT:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= UNIT
    return f"{size_bytes:.1f} {UNITS[-1]}"
