"""What replicas count of their tier, read from their /metrics.

The one place that knows those names outside the engine. What must not live here: what follows from the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cluster.engine.tier import stats

ASK_SECONDS = "longreach_tier_ask_seconds_total"
"""What requests spent on questions to Redis before the engine saw them (`AskCounts.ask_s`). Replicas that do not
export it leave `Counters.ask_s` None, and the share of misses is then not known."""
PROMPTS = "longreach_tier_prompts_total"
"""Prompts by whether Redis was asked about them."""
OPTIONAL = frozenset({"ask_s", "asked_prompts"})
"""Counters of the replica's API process, which not every version exports."""
TOTAL = "_total"
"""Prometheus' ending of a counter's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """One replica's tier, since its start."""

    read_bytes: float = 0.0
    read_s: float = 0.0
    written_bytes: float = 0.0
    write_s: float = 0.0
    scheduler_s: float = 0.0
    loaded_blocks: float = 0.0
    dropped_blocks: float = 0.0
    failures: float = 0.0
    ask_s: float | None = None
    asked_prompts: float | None = None

    def since(self, before: Counters) -> Counters:
        """What was added."""
        values: dict[str, Any] = {name: _less(getattr(self, name), getattr(before, name)) for name in NAMES}
        return Counters(**values)


NAMES = tuple(field.name for field in fields(Counters))


def added(parts: Iterable[Counters]) -> Counters:
    """The sum over replicas, or over spans of time; what one of them does not know, the sum does not know."""
    known = list(parts)
    sums: dict[str, Any] = {}
    for name in NAMES:
        values = [getattr(part, name) for part in known]
        sums[name] = None if name in OPTIONAL and (None in values or not values) else sum(values)
    return Counters(**sums)


def _less(now: float | None, before: float | None) -> float | None:
    return None if now is None else now - (before or 0.0)


def counters_of(text: str) -> Counters:
    """Read a replica's /metrics.

    Raises:
        ValueError: it is not Prometheus text.
    """
    sums: dict[str, float] = {}
    loaded = 0.0
    asked: float | None = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
            if sample.name == stats.BLOCKS + TOTAL and sample.labels.get("result") == "loaded":
                loaded += sample.value
            if sample.name == PROMPTS and sample.labels.get("decision") == "asked":
                asked = (asked or 0.0) + sample.value
    return Counters(
        read_bytes=sums.get(stats.READ_BYTES + TOTAL, 0.0),
        read_s=sums.get(stats.READ_SECONDS + TOTAL, 0.0),
        written_bytes=sums.get(stats.WRITTEN_BYTES + TOTAL, 0.0),
        write_s=sums.get(stats.WRITE_SECONDS + TOTAL, 0.0),
        scheduler_s=sums.get(stats.SCHEDULER_SECONDS + TOTAL, 0.0),
        loaded_blocks=loaded,
        dropped_blocks=sums.get(stats.DROPPED + TOTAL, 0.0),
        failures=sums.get(stats.FAILURES + TOTAL, 0.0),
        ask_s=sums.get(ASK_SECONDS),
        asked_prompts=asked,
    )
