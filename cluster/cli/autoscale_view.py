"""Pools' autoscaling as tables.

What must not live here: reading it (cluster/local/autoscaling.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.core.autoscaling.demand import PoolDemand
from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.boundary.record import ROUND_S
from cluster.local.autoscaling import PoolExplained

STALE_S = 10.0
"""Decisions are made several times a second and written once: older ones are nobody's any more."""
BOUNDARY_STALE_S = 6 * ROUND_S
"""Gateways decide about boundaries once in a round, or in two."""


def autoscale_view(pools: Sequence[PoolExplained]) -> RenderableType:
    """A table of all, then each pool's inputs, reason and last decisions."""
    parts: list[RenderableType] = [_table(pools)]
    for pool in pools:
        if pool.record is not None:
            parts += ["", _inputs(pool, pool.record)]
        if pool.boundary_follows:
            parts.append(_boundary(pool))
        if pool.past:
            parts.append(_past(pool))
    return Group(*parts)


def _table(pools: Sequence[PoolExplained]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in (
        "pool", ">allowed", ">ready", ">starting", ">decided", ">needed", ">ahead", ">held", "by", "age",
    ):  # fmt: skip
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for pool in pools:
        table.add_row(pool.pool, _allowed(pool), *_figures(pool))
    return table


def _allowed(pool: PoolExplained) -> str:
    return f"{pool.min_replicas}-{pool.max_replicas}" if pool.is_autoscaled else str(pool.min_replicas)


def _figures(pool: PoolExplained) -> tuple[str, ...]:
    record = pool.record
    held = str(pool.held)
    if record is None:
        why = "fixed" if not pool.is_autoscaled else "nobody has decided yet"
        return "-", "-", "-", "-", "-", held, why, "-"
    demand, decision = record.demand, record.decision
    pinned = "" if pool.pinned is None else f", pinned to {pool.pinned}"
    return (
        str(demand.ready),
        str(demand.starting),
        str(decision.replicas),
        f"{decision.needed_now:.2f}",
        f"{decision.needed_ahead:.2f}",
        held,
        f"{decision.bound.value}{pinned}",
        _age(pool.age_s or 0.0),
    )


def _age(age_s: float) -> str:
    return f"[red]{age_s:.0f} s: nobody decides now[/]" if age_s > STALE_S else f"{age_s:.0f} s"


def _inputs(pool: PoolExplained, record: AutoscaleRecord) -> Text:
    demand = record.demand
    startup = "not measured yet" if demand.startup_s is None else f"{demand.startup_s:.1f} s"
    work = (
        f"{demand.running} run, {demand.waiting} wait in engines, {demand.held} at gateways (oldest "
        f"{demand.oldest_wait_s:.1f} s), {demand.prefill_tokens:,} prompt tokens to compute, KV cache "
        f"{demand.kv_use_ratio:.0%}"
    )
    lines = [
        f"{pool.pool}: {record.decision.reason}",
        f"  work: {work}",
        f"  speed of a replica: {_speed(demand)}; start: {startup}",
    ]
    if record.ordered_s is not None:
        lines.append(f"  a replica was ordered {max(time.time() - record.ordered_s, 0):.0f} s ago")
    return Text("\n".join(lines))


def _boundary(pool: PoolExplained) -> Text:
    boundary, age_s = pool.boundary, pool.boundary_age_s
    if boundary is None or age_s is None:
        return Text(f"{pool.pool}: boundary: no gateway has decided yet, so its limit")
    moved_s = boundary.moved_s
    moved = "never moved" if moved_s is None else f"moved {max(boundary.written_s - moved_s + age_s, 0):,.0f} s ago"
    text = Text(f"{pool.pool}: boundary to {boundary.larger}, {moved}, decided {age_s:,.0f} s ago")
    if age_s > BOUNDARY_STALE_S:
        text.append(": no gateway decides now", style="red")
    return text.append(f"\n  {boundary.reason}; it holds {boundary.limit_tokens:,}")


def _speed(demand: PoolDemand) -> str:
    speed = demand.speed
    if speed is None:
        return "not measured yet"
    at_least = "at least " if speed.prefill_is_floor else ""
    decode = f"{speed.decode_tokens_per_s:,.0f} output tokens/s with {speed.decode_sequences:.1f} sequences"
    return f"{at_least}{speed.prefill_tokens_per_s:,.0f} prompt tokens/s, {decode}"


def _past(pool: PoolExplained) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    for past in pool.past:
        decision = past.decision
        age_s = max(time.time() - past.written_s, 0.0)
        table.add_row(f"{age_s:,.0f} s ago", f"{decision.current} → {decision.replicas}", escape(decision.reason))
    return table
