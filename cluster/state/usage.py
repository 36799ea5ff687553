"""Usage totals of a cluster in the state Redis, shared by all its gateways.

Keys, all below `longreach:{CLUSTER}:`: `usage:DAY` is a hash of one day, its fields are JSON `[tenant, key, model,
count's name]`; `usage-mark:WRITER` is the last sequence that is in the totals of one writer. What must not live here:
the journal (services/gateway/usage_journal.py).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis

from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import COUNT_FIELDS, RETENTION_DAYS, UsageBatch, UsageCounts, UsageKey

DAY_S = 86_400
MARK_TTL_S = 35 * DAY_S
"""A batch whose gateway crashed after handing it in, and stayed away for longer, would count twice. One mark a writer
is small, so this can be generous."""

APPLY_LUA = """
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[1]) then
  return 0
end
for i = 4, #ARGV, 3 do
  redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2])
end
for i = 2, #KEYS do
  redis.call('EXPIRE', KEYS[i], ARGV[3])
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
"""Adds a batch and its mark in one step, or nothing. KEYS: the mark, then the days. ARGV: sequence, the mark's and
the days' time to live, then (index of the day in KEYS, field, increment) for every count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUsage:
    """Totals and marks of one moment."""

    sums: dict[UsageKey, UsageCounts]
    marks: dict[str, int]
    """The last sequence that is in `sums`, of the writers asked about that have one."""


class UsageStore:
    """Adds to and reads the totals of one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"

    async def apply(self, batch: UsageBatch) -> bool:
        """Add a batch, unless it was added before.

        Returns:
            Whether it was added now.
        """
        days = sorted({key.day for key in batch.sums})
        keys = [self._mark(batch.writer), *(self._day(day) for day in days)]
        arguments: list[str | int] = [batch.sequence, MARK_TTL_S, RETENTION_DAYS * DAY_S]
        for key, counts in batch.sums.items():
            for name in COUNT_FIELDS:
                if value := getattr(counts, name):
                    field = json.dumps([key.tenant, key.key_id, key.model, name], separators=(",", ":"))
                    arguments += [days.index(key.day) + 2, field, value]
        script = self._redis.eval(APPLY_LUA, len(keys), *keys, *arguments)
        return bool(await cast("Awaitable[int]", script))

    async def read(self, days: Sequence[str], *, writers: Collection[str] = ()) -> StoredUsage:
        """The totals of these days, and the marks of these writers at the same moment."""
        named = sorted(writers)
        async with self._redis.pipeline(transaction=True) as pipe:
            for day in days:
                pipe.hgetall(self._day(day))
            for writer in named:
                pipe.get(self._mark(writer))
            answers = await pipe.execute()
        counts: dict[UsageKey, dict[str, int]] = {}
        for day, fields in zip(days, answers[: len(days)], strict=True):
            for field, value in fields.items():
                tenant, key_id, model, name = json.loads(field)
                key = UsageKey(day=day, tenant=TenantName(tenant), key_id=KeyId(key_id), model=model)
                if name in COUNT_FIELDS:
                    counts.setdefault(key, {})[name] = int(value)
        marks = {
            writer: int(mark) for writer, mark in zip(named, answers[len(days) :], strict=True) if mark is not None
        }
        return StoredUsage(sums={key: UsageCounts(**given) for key, given in counts.items()}, marks=marks)

    def _day(self, day: str) -> str:
        return f"{self._prefix}usage:{day}"

    def _mark(self, writer: str) -> str:
        return f"{self._prefix}usage-mark:{writer}"
