"""What `longreach top` shows, as tables.

What must not live here: the numbers (cluster/local/top/sight.py).
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.local.top.sight import PoolSight, ReplicaSight, Sight

UNKNOWN = "-"
THOUSAND = 1000.0
BAD_RED = 0.005
"""The error budget of the alert rules (cluster/kubernetes/monitoring/rules/thresholds.py)."""
KV_YELLOW = 0.9
"""Their limit of a full KV cache."""
FIXED_LINES = 9
"""Head, heads of tables, gaps and the last line: what remains of a screen is for rows."""
LINES_MIN = 12


def top_view(sight: Sight, url: str, *, lines_max: int | None = None) -> RenderableType:
    """Everything of one look.

    Args:
        sight: what was seen.
        url: where.
        lines_max: of the screen; None shows every replica.
    """
    parts: list[RenderableType] = [_head(sight, url), Text(), _pools(sight.pools)]
    if sight.replicas:
        room = None if lines_max is None else max(max(lines_max, LINES_MIN) - FIXED_LINES - len(sight.pools), 1)
        shown = sight.replicas[:room]
        parts += [Text(), _replicas(shown)]
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


def _pools(pools: tuple[PoolSight, ...]) -> Table:
    table = _table(
        "pool", ">context", ">ready", ">req/s", ">bad", ">held", ">run", ">wait", ">KV", ">in tok/s", ">cached",
        ">out tok/s", ">TTFT p50", ">p95", ">spills/s",
    )  # fmt: skip
    for pool in pools:
        table.add_row(
            pool.pool,
            UNKNOWN if pool.context_tokens is None else f"{pool.context_tokens:,}",
            _ready(pool),
            rate_text(pool.requests_per_s),
            share_text(pool.bad_ratio),
            str(pool.held),
            _count(pool.running),
            _count(pool.waiting),
            _kv(pool.kv_use_ratio),
            rate_text(pool.prompt_tokens_per_s),
            share_text(pool.cached_ratio),
            rate_text(pool.output_tokens_per_s),
            seconds_text(pool.ttft_p50_s),
            seconds_text(pool.ttft_p95_s),
            rate_text(pool.spilled_per_s),
        )
    return table


def _replicas(replicas: tuple[ReplicaSight, ...]) -> Table:
    table = _table(
        "replica", "pool", ">run", ">wait", ">KV", ">in tok/s", ">engine", ">host", ">Redis", ">out tok/s",
        ">TTFT p95", ">preempt/s", "",
    )  # fmt: skip
    for replica in replicas:
        table.add_row(
            replica.replica_id,
            replica.pool,
            _count(replica.running),
            _count(replica.waiting),
            _kv(replica.kv_use_ratio),
            rate_text(replica.prompt_tokens_per_s),
            share_text(replica.device_ratio),
            share_text(replica.host_ratio),
            share_text(replica.redis_ratio),
            rate_text(replica.output_tokens_per_s),
            seconds_text(replica.ttft_p95_s),
            rate_text(replica.preemptions_per_s),
            f"[red]{escape(replica.error)}[/]" if replica.error else "",
        )
    return table


def _ready(pool: PoolSight) -> str:
    text = str(pool.ready) if pool.wanted is None else f"{pool.ready}/{pool.wanted}"
    ill = [f"{count} {word}" for word, count in (("suspect", pool.suspect), ("draining", pool.draining)) if count]
    if ill:
        return f"[yellow]{text} ({', '.join(ill)})[/]"
    return text if pool.ready else f"[red]{text}[/]"


def _kv(value: float | None) -> str:
    text = share_text(value)
    return f"[yellow]{text}[/]" if (value or 0) > KV_YELLOW else text


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=bool(column)
        )
    return table
