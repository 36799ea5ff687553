"""What `longreach top` shows, as tables.

What must not live here: the numbers (cluster/local/top/sight.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.local.top.sight import PoolSight, ReplicaSight, Sight

UNKNOWN = "-"
WIDE_COLUMNS = 120
"""From here on all columns fit; the rest fit on 80."""
Row = TypeVar("Row")
THOUSAND = 1000.0
BAD_RED = 0.005
"""The error budget of the alert rules (cluster/kubernetes/monitoring/rules/thresholds.py)."""
KV_YELLOW = 0.9
"""Their limit of a full KV cache."""
FIXED_LINES = 9
"""Head, heads of tables, gaps and the last line: what remains of a screen is for rows."""
LINES_MIN = 12


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a table."""

    head: str
    cell: Callable[[Row], str]
    is_text: bool = False
    """Else a number, which ends at the right."""
    is_wide: bool = False
    """Shown on wide screens alone."""


def top_view(sight: Sight, url: str, *, width: int = WIDE_COLUMNS, lines_max: int | None = None) -> RenderableType:
    """Everything of one look.

    Args:
        sight: what was seen.
        url: where.
        width: of the screen, in characters.
        lines_max: of the screen; None shows every replica.
    """
    parts: list[RenderableType] = [_head(sight, url), Text(), _table(POOL_COLUMNS, sight.pools, width)]
    if sight.replicas:
        room = None if lines_max is None else max(max(lines_max, LINES_MIN) - FIXED_LINES - len(sight.pools), 1)
        shown = sight.replicas[:room]
        parts += [Text(), _table(REPLICA_COLUMNS, shown, width)]
        if len(shown) < len(sight.replicas):
            parts.append(Text(f"and {len(sight.replicas) - len(shown)} more replicas; --once shows all", style="dim"))
    return Group(*parts)


def trouble_view(message: str, url: str) -> RenderableType:
    """The gateway cannot be read; looking goes on."""
    return Text(f"{url}\n{message}\ntrying again, until Ctrl-C", style="red")


def rate_text(value: float | None) -> str:
    """A number by the second, three digits of it."""
    if value is None:
        return UNKNOWN
    if value >= THOUSAND:
        return f"{value / THOUSAND:.1f}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"  # noqa: PLR2004 - three digits


def share_text(value: float | None) -> str:
    """A share as a percentage; small ones keep a digit, so that none looks like zero."""
    if value is None:
        return UNKNOWN
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"  # noqa: PLR2004 - a tenth


def seconds_text(value: float | None) -> str:
    """A time, in milliseconds below a second."""
    if value is None:
        return UNKNOWN
    return f"{value * THOUSAND:.0f} ms" if value < 1 else f"{value:.1f} s"


def _head(sight: Sight, url: str) -> Text:
    text = Text()
    text.append(f"longreach {sight.version} · {url} · over {sight.seconds:.1f} s\n")
    queued = ", ".join(f"{count} {priority}" for priority, count in sight.queued.items() if count)
    text.append(f"{rate_text(sight.requests_per_s)} requests/s · {sight.in_flight} in flight · waiting: ")
    text.append(queued or "none", style="yellow" if queued else "")
    text.append(f" · {rate_text(sight.output_tokens_per_s)} tokens/s out · bad ")
    text.append(share_text(sight.bad_ratio), style="red" if (sight.bad_ratio or 0) > BAD_RED else "")
    text.append(f" · gateway {rate_text(sight.cpu_cores)} cores")
    if sight.refused_per_s:
        said = ", ".join(f"{reason} {rate_text(value)}/s" for reason, value in sorted(sight.refused_per_s.items()))
        text.append(f"\nrefused: {said}", style="yellow")
    return text


def _table(columns: Sequence[Column[Any]], rows: Sequence[Any], width: int) -> Table:
    """Where the screen is narrow, the columns that most can do without are left out."""
    is_wide = width >= WIDE_COLUMNS
    shown = [column for column in columns if is_wide or not column.is_wide]
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2 if is_wide else 1, 0, 0))
    for column in shown:
        table.add_column(column.head, justify="left" if column.is_text else "right", no_wrap=bool(column.head))
    for row in rows:
        table.add_row(*(column.cell(row) for column in shown))
    return table


def _ready(pool: PoolSight) -> str:
    text = str(pool.ready) if pool.wanted is None else f"{pool.ready}/{pool.wanted}"
    return text if pool.ready else f"[red]{text}[/]"


def _ill(pool: PoolSight) -> str:
    count = pool.suspect + pool.draining
    return f"[yellow]{count}[/]" if count else "0"


def _kv(value: float | None) -> str:
    text = share_text(value)
    return f"[yellow]{text}[/]" if (value or 0) > KV_YELLOW else text


def _count(value: int | None, form: str = "{}") -> str:
    return UNKNOWN if value is None else form.format(value)


POOL_COLUMNS: tuple[Column[PoolSight], ...] = (
    Column("pool", lambda pool: escape(pool.pool), is_text=True),
    Column("context", lambda pool: _count(pool.context_tokens, "{:,}"), is_wide=True),
    Column("ready", _ready),
    Column("ill", _ill),
    Column("req/s", lambda pool: rate_text(pool.requests_per_s)),
    Column("bad", lambda pool: share_text(pool.bad_ratio)),
    Column("held", lambda pool: str(pool.held)),
    Column("run", lambda pool: _count(pool.running)),
    Column("wait", lambda pool: _count(pool.waiting)),
    Column("KV", lambda pool: _kv(pool.kv_use_ratio)),
    Column("in t/s", lambda pool: rate_text(pool.prompt_tokens_per_s)),
    Column("cached", lambda pool: share_text(pool.cached_ratio)),
    Column("out t/s", lambda pool: rate_text(pool.output_tokens_per_s)),
    Column("TTFT p50", lambda pool: seconds_text(pool.ttft_p50_s), is_wide=True),
    Column("p95", lambda pool: seconds_text(pool.ttft_p95_s)),
    Column("spills/s", lambda pool: rate_text(pool.spilled_per_s), is_wide=True),
)
REPLICA_COLUMNS: tuple[Column[ReplicaSight], ...] = (
    Column("replica", lambda replica: escape(replica.replica_id), is_text=True),
    Column("pool", lambda replica: escape(replica.pool), is_text=True),
    Column("run", lambda replica: _count(replica.running)),
    Column("wait", lambda replica: _count(replica.waiting)),
    Column("KV", lambda replica: _kv(replica.kv_use_ratio)),
    Column("in t/s", lambda replica: rate_text(replica.prompt_tokens_per_s)),
    Column("engine", lambda replica: share_text(replica.device_ratio)),
    Column("host", lambda replica: share_text(replica.host_ratio), is_wide=True),
    Column("Redis", lambda replica: share_text(replica.redis_ratio)),
    Column("out t/s", lambda replica: rate_text(replica.output_tokens_per_s)),
    Column("p95", lambda replica: seconds_text(replica.ttft_p95_s)),
    Column("preempt/s", lambda replica: rate_text(replica.preemptions_per_s), is_wide=True),
    Column("", lambda replica: f"[red]{escape(replica.error)}[/]" if replica.error else "", is_text=True),
)
