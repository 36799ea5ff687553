"""What gateways share of their boundaries, in the state Redis.

Keys, all below `longreach:{CLUSTER}:`: `boundary:POOL` is the boundary above a pool that is in force, `lengths:ID` what
a gateway process has seen of requests' lengths, which expires by itself, `lengths` the set of those ids, and
`boundary-turn` whose turn it is to decide. What must not live here: what any of it means (cluster/core/boundary).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from redis.asyncio import Redis

from cluster.core.boundary.record import ROUND_S, TOLD_TTL_S, BoundaryRecord, GatewaySeen
from cluster.core.lease import PoolName
from cluster.state.understanding import understood

TURN_S = 0.9 * ROUND_S
"""A turn ends before whoever had it looks again, so that one gateway alone decides in every round."""
RECORD_TTL_S = 86_400
"""A boundary outlives all gateways for a day, as decisions about replicas do: traffic is much like yesterday's."""


class Heard(NamedTuple):
    """What the store says at one moment."""

    now_s: float
    """The store's clock, since the epoch: that of a gateway may differ from another's."""
    others: tuple[GatewaySeen, ...]
    """What the other gateways have seen."""
    records: dict[PoolName, BoundaryRecord]
    """The boundary above each pool that has one."""
    is_turn: bool
    """Whether it is for whoever asked to decide now."""


class BoundaryStore:
    """Reads and writes them for one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached. What another
    version wrote and this one cannot read counts as not there.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"

    async def exchange(self, told: GatewaySeen, pools: Collection[PoolName]) -> Heard:
        """Tell what a gateway has seen, and hear what the others have, and what is in force above each of `pools`.

        Whoever is the first to ask in a round has the turn.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "lengths", told.gateway)
            pipe.set(self._key("lengths", told.gateway), json.dumps(told.to_dict()), px=int(TOLD_TTL_S * 1000))
            pipe.smembers(self._prefix + "lengths")
            pipe.set(self._prefix + "boundary-turn", told.gateway, nx=True, px=int(TURN_S * 1000))
            pipe.time()
            _, _, ids, turn, (seconds, microseconds) = await pipe.execute()
        others = sorted({str(gateway) for gateway in ids} - {told.gateway})
        return Heard(
            now_s=seconds + microseconds / 1e6,
            others=await self._seen(others),
            records=await self.records(pools),
            is_turn=turn is not None,
        )

    async def put(self, records: Iterable[BoundaryRecord]) -> None:
        """Write what was decided."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for record in records:
                pipe.set(self._key("boundary", record.smaller), json.dumps(record.to_dict()), ex=RECORD_TTL_S)
            await pipe.execute()

    async def records(self, pools: Collection[PoolName]) -> dict[PoolName, BoundaryRecord]:
        """What is in force above each of `pools`, where there is something."""
        if not pools:
            return {}
        texts = await self._redis.mget([self._key("boundary", pool) for pool in pools])
        found = ((pool, understood(BoundaryRecord.from_dict, text)) for pool, text in zip(pools, texts, strict=True))
        return {pool: record for pool, record in found if record is not None}

    async def _seen(self, gateways: Collection[str]) -> tuple[GatewaySeen, ...]:
        if not gateways:
            return ()
        texts = await self._redis.mget([self._key("lengths", gateway) for gateway in gateways])
        gone = [gateway for gateway, text in zip(gateways, texts, strict=True) if text is None]
        if gone:
            # One that only paused puts itself in again with its next word.
            await self._redis.srem(self._prefix + "lengths", *gone)
        found = (understood(GatewaySeen.from_dict, text) for text in texts)
        return tuple(each for each in found if each is not None)

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}{kind}:{name}"
