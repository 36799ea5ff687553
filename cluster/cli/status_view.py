"""A cluster's status as tables.

What must not live here: reading the status (cluster/local/observe.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.core.lease import ReplicaPhase
from cluster.core.start import start_words
from cluster.core.tier.terms import TierTerms
from cluster.local.observe import ClusterStatus, PoolStatus

MINUTE_S = 60.0
HOUR_S = 3600.0
PHASE_STYLES = {"ready": "green", "running": "green", "serving": "green", "failed": "red", "broken": "red"}


def status_view(status: ClusterStatus) -> RenderableType:
    """Everything of one cluster."""
    if status.phase == "stopped":
        return Text(f"cluster {status.cluster}: not running (start it with `longreach up`)")
    parts: list[RenderableType] = [_head(status), _pools(status.pools)]
    if any(pool.replicas for pool in status.pools):
        parts.append(_replicas(status.pools))
    parts += [line for pool in status.pools if (line := _start(pool)) is not None]
    parts += [last_error(pool) for pool in status.pools if pool.last_error]
    return Group(*parts)


def _head(status: ClusterStatus) -> Text:
    text = Text()
    text.append(f"cluster {status.cluster}: ")
    text.append(status.phase, style=PHASE_STYLES.get(status.phase, "yellow"))
    text.append(f" · gateway {status.url} ")
    text.append(
        "ok" if status.gateway_healthy else "does not answer", style="green" if status.gateway_healthy else "red"
    )
    text.append(" · redis ")
    text.append(status.redis, style="green" if status.redis in {"ok", "none"} else "red")
    if status.cache != "none":
        text.append(" · cache ")
        text.append(status.cache, style="green" if status.cache == "ok" else "red")
    dead = [process.name for process in status.processes if not process.alive and process.name != "apply"]
    if dead:
        text.append(f"\nended: {', '.join(dead)}", style="red")
    if status.dropped_pools:
        text.append(f"\nleft out for lack of memory: {', '.join(status.dropped_pools)}", style="yellow")
    return text


def _pools(pools: tuple[PoolStatus, ...]) -> Table:
    table = _table("pool", "model", ">context", ">ready", "phase", ">running", ">waiting", ">KV use", "detail")
    for pool in pools:
        table.add_row(
            pool.name,
            pool.model,
            f"{pool.context_tokens:,}",
            _count(pool),
            _phase(pool.phase),
            str(pool.running),
            str(pool.waiting),
            f"{pool.kv_use_ratio:.0%}",
            escape(pool.detail),
        )
    return table


def _count(pool: PoolStatus) -> str:
    if pool.is_static:
        return "-"
    wanted = pool.target if pool.wanted is None else pool.wanted
    return f"{pool.ready}/{wanted}" + ("" if pool.pinned is None else " pinned")


def _replicas(pools: tuple[PoolStatus, ...]) -> Table:
    # Shown where a pool has a tier: a dash then means that nothing is fetched, which somebody should see.
    tier = (">fetch from",) if any(pool.has_tier for pool in pools) else ()
    table = _table("replica", "pool", "phase", "lease", ">pid", ">running", ">waiting", ">KV use", *tier, "detail")
    for pool in pools:
        for replica in pool.replicas:
            if replica.phase == ReplicaPhase.STOPPED:
                continue  # reports of the past stay readable with --json
            table.add_row(
                replica.replica_id,
                pool.name,
                _phase(replica.phase),
                replica.lease or "-",
                str(replica.pid or "-"),
                str(replica.running),
                str(replica.waiting),
                f"{replica.kv_use_ratio:.0%}",
                *((_fetch_from(replica.tier),) if tier else ()),
                escape(replica.last_error or replica.detail),
            )
    return table


def _start(pool: PoolStatus) -> Text | None:
    """Where the seconds went of the start of its slowest replica that serves."""
    starts = [replica.start_s for replica in pool.replicas if replica.phase == ReplicaPhase.SERVING and replica.start_s]
    if not starts:
        return None
    return Text(f"{pool.name}: started in {start_words(max(starts, key=_total_s))}", style="dim")


def _total_s(stages: Mapping[str, float]) -> float:
    return sum(stages.values())


def _fetch_from(tier: dict[str, Any] | None) -> str:
    """The shortest prompt that a replica asks Redis about."""
    terms = TierTerms.from_dict(tier)
    return f"{terms.least_prompt_tokens:,} tokens" if terms is not None else "-"


def last_error(pool: PoolStatus) -> Text:
    """A pool's last error and its age; red while it may be why the pool is not ready."""
    text = f"{pool.name}: last error, {_age(pool.last_error_age_s or 0.0)} ago: {pool.last_error}"
    return Text(text, style="dim" if pool.is_ready else "red")


def _age(age_s: float) -> str:
    if age_s < MINUTE_S:
        return f"{age_s:.0f} s"
    return f"{age_s / MINUTE_S:.0f} min" if age_s < HOUR_S else f"{age_s / HOUR_S:.0f} h"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table


def _phase(phase: str) -> str:
    style = PHASE_STYLES.get(phase, "yellow")
    return f"[{style}]{phase}[/]"
