"""What autoscaling needs in the state Redis: gateways' demand, latest and last decisions, pins.

Keys, all below `longreach:{CLUSTER}:`: `gateways` is the set of known gateway ids, `asked:ID` what one of them is asked
for, which expires by itself, `autoscale:POOL` the latest decision with its inputs, `autoscale-past:POOL` a list of the
last ones that changed something, `pin:POOL` the number of replicas an operator wants whatever the load.
What must not live here: what any of it means (cluster/core/autoscaling).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from cluster.core.autoscaling.asked import GATEWAY_TTL_S, GatewayAsked
from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.lease import PoolName
from cluster.state.understanding import understood

RECORD_TTL_S = 86_400
"""A decision can be read about for a day, and a start's duration be known to the next controller."""
PAST_MAX = 50
"""Decisions kept of a pool: at one a minute nearly an hour, and 25 KB."""
PAST_TTL_S = 7 * 86_400


class AutoscaleStore:
    """Reads and writes them for one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached. What another
    version wrote and this one cannot read counts as not there.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"

    async def put_asked(self, asked: GatewayAsked) -> None:
        """Tell what a gateway is asked for, for `GATEWAY_TTL_S`."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "gateways", asked.gateway)
            pipe.set(self._key("asked", asked.gateway), json.dumps(asked.to_dict()), px=int(GATEWAY_TTL_S * 1000))
            await pipe.execute()

    async def drop_asked(self, gateway: str) -> None:
        """A gateway ends."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.srem(self._prefix + "gateways", gateway)
            pipe.delete(self._key("asked", gateway))
            await pipe.execute()

    async def asked(self) -> tuple[GatewayAsked, ...]:
        """What every live gateway is asked for."""
        ids = sorted(str(gateway) for gateway in await self._redis.smembers(self._prefix + "gateways"))
        if not ids:
            return ()
        texts = await self._redis.mget([self._key("asked", gateway) for gateway in ids])
        gone = [gateway for gateway, text in zip(ids, texts, strict=True) if text is None]
        if gone:
            # One that only paused puts itself in again with its next word.
            await self._redis.srem(self._prefix + "gateways", *gone)
        found = (understood(GatewayAsked.from_dict, text) for text in texts)
        return tuple(each for each in found if each is not None)

    async def put_record(self, record: AutoscaleRecord) -> None:
        """Write the latest decision about a pool."""
        key = self._key("autoscale", record.decision.pool)
        await self._redis.set(key, json.dumps(record.to_dict()), ex=RECORD_TTL_S)

    async def records(self, pools: Iterable[PoolName]) -> dict[PoolName, AutoscaleRecord]:
        """The latest decision about each of `pools`, where there is one."""
        return {
            pool: record
            for pool, text in (await self._texts("autoscale", pools)).items()
            if (record := understood(AutoscaleRecord.from_dict, text)) is not None
        }

    async def add_past(self, past: PastDecision) -> None:
        """Keep a decision that changed something, with the last `PAST_MAX` of its pool."""
        key = self._key("autoscale-past", past.decision.pool)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(key, json.dumps(past.to_dict()))
            pipe.ltrim(key, 0, PAST_MAX - 1)
            pipe.expire(key, PAST_TTL_S)
            await pipe.execute()

    async def past(self, pool: PoolName, limit: int = PAST_MAX) -> tuple[PastDecision, ...]:
        """The last decisions about a pool that changed something, the latest first."""
        texts: Any = await self._redis.lrange(self._key("autoscale-past", pool), 0, limit - 1)
        found = (understood(PastDecision.from_dict, text) for text in texts)
        return tuple(each for each in found if each is not None)

    async def pin(self, pool: PoolName, replicas: int | None) -> None:
        """Have so many replicas of a pool, whatever the load; None: as many as the load wants."""
        if replicas is None:
            await self._redis.delete(self._key("pin", pool))
        else:
            await self._redis.set(self._key("pin", pool), str(replicas))

    async def pins(self, pools: Iterable[PoolName]) -> dict[PoolName, int]:
        """The pinned numbers of those of `pools` that have one."""
        found = {pool: understood(int, text) for pool, text in (await self._texts("pin", pools)).items()}
        return {pool: replicas for pool, replicas in found.items() if replicas is not None}

    async def _texts(self, kind: str, pools: Iterable[PoolName]) -> dict[PoolName, str]:
        names = tuple(pools)
        if not names:
            return {}
        texts = await self._redis.mget([self._key(kind, pool) for pool in names])
        return {pool: str(text) for pool, text in zip(names, texts, strict=True) if text is not None}

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"
