"""Requests that belong together, by label, prompt length, pool or tenant, and the sums of each such group.

What must not live here: sums of a whole run (summary.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from loadtest.record import Record
from loadtest.report.distribution import Distribution, distribution
from loadtest.report.level import Level, is_good
from loadtest.report.times import e2e_s, tpot_s, ttft_s

BANDS = (1, 1_024, 4_096, 16_384, 65_536)
"""Where bands of prompts begin, in tokens."""
BAND_NAMES = ("0-1k", "1-4k", "4-16k", "16-64k", "64k+")
NOT_TOLD = "not told"
"""Of a request whose length neither server nor scenario told; of a pool that nobody named, as where it was refused."""
REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sums over some requests. Times are those of answered ones alone; goodput counts all."""

    name: str
    requests: int
    answered: int
    refused: int
    """By a status from 400 to 499, as 429 for want of room."""
    failed: int
    """In any other way."""
    good: int
    """Answered within the service level."""
    ttft_s: Distribution
    itl_s: Distribution
    """Of every gap between two events with tokens, of all answers together."""
    tpot_s: Distribution
    """Of each answer's mean."""
    e2e_s: Distribution
    prompt_tokens: int
    """Of answered requests, as are the next two."""
    cached_tokens: int
    output_tokens: int

    @property
    def good_ratio(self) -> float:
        """Of all requests, those within the service level; 1 where there are none."""
        return self.good / self.requests if self.requests else 1.0

    @property
    def hit_ratio(self) -> float:
        """Of prompt tokens, those that were not computed; 0 where there are none."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def group_of(name: str, records: Sequence[Record], level: Level) -> Group:
    """The sums of these requests."""
    answered = [record for record in records if not record.error]
    refused = sum(record.error == REFUSED for record in records)
    return Group(
        name=name,
        requests=len(records),
        answered=len(answered),
        refused=refused,
        failed=len(records) - len(answered) - refused,
        good=sum(is_good(record, level) for record in answered),
        ttft_s=distribution(time for record in answered if (time := ttft_s(record)) is not None),
        itl_s=distribution(chain.from_iterable(record.gaps_s for record in answered)),
        tpot_s=distribution(time for record in answered if (time := tpot_s(record)) is not None),
        e2e_s=distribution(map(e2e_s, answered)),
        prompt_tokens=sum(record.prompt_tokens for record in answered),
        cached_tokens=sum(record.cached_tokens for record in answered),
        output_tokens=sum(record.output_tokens for record in answered),
    )


def band_of(record: Record) -> str:
    """The band of a request's prompt: as the server counted, else as it was planned."""
    tokens = record.prompt_tokens or record.planned_tokens
    return BAND_NAMES[bisect_right(BANDS, tokens) - 1] if tokens else NOT_TOLD


def by_label(records: Iterable[Record], level: Level) -> tuple[Group, ...]:
    """By the scenario's labels."""
    return _grouped(records, lambda record: record.label or NOT_TOLD, level)


def by_band(records: Iterable[Record], level: Level) -> tuple[Group, ...]:
    """By prompt length, shortest first."""
    found = {group.name: group for group in _grouped(records, band_of, level)}
    return tuple(found[name] for name in (*BAND_NAMES, NOT_TOLD) if name in found)


def by_pool(records: Iterable[Record], level: Level) -> tuple[Group, ...]:
    """By the pool that answered."""
    return _grouped(records, lambda record: record.pool or NOT_TOLD, level)


def by_tenant(records: Iterable[Record], level: Level) -> tuple[Group, ...]:
    """By tenant; none where the run had no tenants of its own."""
    return _grouped((record for record in records if record.tenant), lambda record: record.tenant, level)


def _grouped(records: Iterable[Record], key: Callable[[Record], str], level: Level) -> tuple[Group, ...]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return tuple(group_of(name, rows, level) for name, rows in sorted(found.items()))
