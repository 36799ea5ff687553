"""Who used how many tokens: the key, the counts, adding up, grouping.

What lives here: the arithmetic, the same for the journal, the totals and the command line. What must not: files,
Redis, clocks (the day is passed in).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from cluster.core.outcome import ReplicaOutcome
from cluster.core.tenant import KeyId, TenantName

KEYS_PER_BATCH_MAX = 10_000
"""Distinct (day, tenant, key, model) in one batch. All parts come from the configuration and the key file, so real
clusters stay far below; beyond it, counts go to `OTHER`, so that a mistake upstream cannot fill memory or Redis."""
RETENTION_DAYS = 400
"""How long totals are kept: a year, and a month to ask about it."""
OTHER = "other"
"""Stands for everything beyond a limit."""
_DAYS = re.compile(r"([1-9][0-9]{0,3})d")


class UsageKey(NamedTuple):
    """What counts are kept apart by; every part is a name from the configuration, never text of a client."""

    day: str
    """UTC, `2026-11-22`: the day on which the answer ended."""
    tenant: TenantName
    key_id: KeyId
    model: str
    """The model's, alias's or adapter's name in the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCounts:
    """Requests that an engine answered, and their tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that were not computed."""
    output_tokens: int = 0
    unknown_requests: int = 0
    """Answered, but the engine reported no usage: their tokens are missing here."""
    broken_requests: int = 0
    """Broke off under way."""

    def __add__(self, other: UsageCounts) -> UsageCounts:
        """The sum of both."""
        return UsageCounts(
            requests=self.requests + other.requests,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            unknown_requests=self.unknown_requests + other.unknown_requests,
            broken_requests=self.broken_requests + other.broken_requests,
        )


COUNT_FIELDS = (
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "unknown_requests",
    "broken_requests",
)
"""The fields of UsageCounts in the order in which they are stored."""

UsageSums = Mapping[UsageKey, UsageCounts]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBatch:
    """Counts that are added to the totals once, however often they are handed in.

    A writer's batches are handed in by ascending sequence, each until it is in the totals. So the last sequence that
    was added is all the totals have to remember of a writer.
    """

    writer: str
    """Unique for ever: one life of one worker process."""
    sequence: int
    sums: UsageSums


class UsageGroup(StrEnum):
    """What a report's rows are."""

    TENANT = "tenant"
    KEY = "key"
    MODEL = "model"
    DAY = "day"

    @property
    def columns(self) -> tuple[str, ...]:
        """What names a row. A key is shown with its tenant."""
        return ("tenant", "key") if self is UsageGroup.KEY else (self.value,)


def counts_of(outcome: ReplicaOutcome | None, *, is_broken: bool = False) -> UsageCounts:
    """The counts of one answered request; `outcome` is what the engine reported, None where it reported nothing."""
    if outcome is None:
        return UsageCounts(requests=1, unknown_requests=1, broken_requests=int(is_broken))
    return UsageCounts(
        requests=1,
        prompt_tokens=outcome.prompt_tokens,
        cached_tokens=outcome.cached_tokens,
        output_tokens=outcome.output_tokens,
        broken_requests=int(is_broken),
    )


def folded(
    records: Iterable[tuple[UsageKey, UsageCounts]], *, keys_max: int = KEYS_PER_BATCH_MAX
) -> dict[UsageKey, UsageCounts]:
    """The sum of `records` by key. Keys beyond `keys_max` are counted under `OTHER`, so no count is ever left out."""
    sums: dict[UsageKey, UsageCounts] = {}
    for given, counts in records:
        key = given
        known = sums.get(key)
        if known is None and len(sums) >= keys_max:
            key = UsageKey(day=key.day, tenant=TenantName(OTHER), key_id=KeyId(OTHER), model=OTHER)
            known = sums.get(key)
        sums[key] = counts if known is None else known + counts
    return sums


def grouped(sums: UsageSums, by: UsageGroup) -> dict[tuple[str, ...], UsageCounts]:
    """The rows of a report: the values of `by.columns` with their counts, in order."""
    rows: dict[tuple[str, ...], UsageCounts] = {}
    for key, counts in sums.items():
        row = _row(key, by)
        rows[row] = rows[row] + counts if row in rows else counts
    return dict(sorted(rows.items()))


def total(sums: UsageSums) -> UsageCounts:
    """The sum of everything."""
    return sum(sums.values(), start=UsageCounts())


def days_since(since: str, *, today: date) -> tuple[str, ...]:
    """The days of a report, the oldest first, `today` last.

    Args:
        since: `7d` for the last seven days, today included, or the first day as `2026-11-22`.
        today: the present day, UTC.

    Raises:
        ValueError: `since` is neither, lies ahead, or goes back over `RETENTION_DAYS`.
    """
    if found := _DAYS.fullmatch(since):
        count = int(found[1])
    else:
        try:
            count = (today - date.fromisoformat(since)).days + 1
        except ValueError:
            raise ValueError(f"{since!r} is neither a number of days like 7d nor a date like {today}") from None
    if count < 1:
        raise ValueError(f"{since} is later than today, {today} (UTC)")
    if count > RETENTION_DAYS:
        raise ValueError(f"{since} is more than {RETENTION_DAYS} days back; usage is not kept that long")
    return tuple((today - timedelta(days=back)).isoformat() for back in range(count - 1, -1, -1))


def _row(key: UsageKey, by: UsageGroup) -> tuple[str, ...]:
    match by:
        case UsageGroup.TENANT:
            return (key.tenant,)
        case UsageGroup.KEY:
            return (key.tenant, key.key_id)
        case UsageGroup.MODEL:
            return (key.model,)
        case UsageGroup.DAY:
            return (key.day,)
