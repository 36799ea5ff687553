"""The tier's numbers, by the names they have in vLLM's statistics and at /metrics.

The prefix is vLLM's, which cleans its registry by it when an engine starts anew. What must not live here:
vLLM's classes (manager.py), what is done with the numbers (asking.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cluster.engine.tier.jobs import Counts

READ_BYTES = "vllm:redis_tier_read_bytes"
READ_SECONDS = "vllm:redis_tier_read_seconds"
WRITTEN_BYTES = "vllm:redis_tier_written_bytes"
WRITE_SECONDS = "vllm:redis_tier_write_seconds"
BLOCKS = "vllm:redis_tier_blocks"
BAD_VALUES = "vllm:redis_tier_bad_values"
DROPPED = "vllm:redis_tier_dropped_blocks"
LOOKUPS = "vllm:redis_tier_lookups"
SCHEDULER_SECONDS = "vllm:redis_tier_scheduler_seconds"
FAILURES = "vllm:redis_tier_failures"
IS_UP = "vllm:redis_tier_up"
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    READ_BYTES: ("Bytes of KV blocks fetched from Redis.", ()),
    READ_SECONDS: ("Seconds of fetches, each from its order to its end.", ()),
    WRITTEN_BYTES: ("Bytes of KV blocks stored in Redis.", ()),
    WRITE_SECONDS: ("Seconds of the store thread at it.", ()),
    BLOCKS: ("KV blocks by what became of them.", ("result",)),
    BAD_VALUES: ("Values in Redis that were not what their keys promise; each was deleted.", ("fault",)),
    DROPPED: ("KV blocks that were not stored.", ("reason",)),
    LOOKUPS: ("The scheduler's questions to the tier, all answered from memory.", ("result",)),
    SCHEDULER_SECONDS: ("Seconds the tier took of the scheduler's thread.", ()),
    FAILURES: ("Times Redis was away, too slow, or made no sense.", ()),
}
GAUGES = {IS_UP: "1 while blocks are fetched from Redis, 0 while its breaker is open."}


def observations(
    counts: Counts, *, hits: int, misses: int, scheduler_s: float, is_first: bool
) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Name, labels and increase of every counter that moved; the first time of all, so that each begins at zero.

    Prometheus sees no increase where a counter appears with its first fault.
    """
    rows: tuple[tuple[str, tuple[str, ...], float], ...] = (
        (READ_BYTES, (), counts.read_bytes),
        (READ_SECONDS, (), counts.read_s),
        (WRITTEN_BYTES, (), counts.written_bytes),
        (WRITE_SECONDS, (), counts.write_s),
        (BLOCKS, ("loaded",), counts.loaded),
        (BLOCKS, ("missing",), counts.missing),
        (BLOCKS, ("stored",), counts.stored),
        (BLOCKS, ("refreshed",), counts.refreshed),
        (BLOCKS, ("refused",), counts.refused),
        (BAD_VALUES, ("size",), counts.bad_size),
        (BAD_VALUES, ("format",), counts.bad_format),
        (BAD_VALUES, ("key",), counts.bad_key),
        (BAD_VALUES, ("checksum",), counts.bad_checksum),
        (DROPPED, ("queue",), counts.dropped_queue),
        (DROPPED, ("down",), counts.dropped_down),
        (DROPPED, ("full",), counts.dropped_full),
        (LOOKUPS, ("hit",), hits),
        (LOOKUPS, ("miss",), misses),
        (FAILURES, (), counts.failures),
    )
    moved = [row for row in rows if row[2] or is_first]
    if moved:
        # Alone it moves with every step, and would be a message of its own each time.
        moved.append((SCHEDULER_SECONDS, (), scheduler_s))
    yield from moved


def total(statistics: Mapping[str, Any] | None, name: str) -> float:
    """The sum of a counter over its labels, in the statistics of one step as vLLM passes them to its loggers."""
    values = ((statistics or {}).get("data") or {}).get(name) or {}
    return float(sum(values.values()))
