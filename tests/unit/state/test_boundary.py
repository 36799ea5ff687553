"""What gateways share of boundaries, in a real Valkey server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from cluster.core.boundary import GatewaySeen
from cluster.core.boundary.record import ROUND_S, TOLD_TTL_S
from cluster.core.lease import PoolName
from cluster.state.boundary import BoundaryStore
from tests.unit.core.boundary.test_boundary_record import RECORD, TOLD

SHORT, LONG = PoolName("short"), PoolName("long")
KEY = "longreach:{c}:"


@pytest.fixture
def store(redis: Redis) -> BoundaryStore:
    return BoundaryStore(redis, "c")


async def test_gateways_hear_each_other_and_one_has_the_turn(redis: Redis, store: BoundaryStore) -> None:
    first = await store.exchange(TOLD, [SHORT])
    assert (first.others, first.records, first.is_turn) == ((), {}, True)
    second = await store.exchange(replace(TOLD, gateway="b"), [SHORT])
    assert (second.others, second.is_turn) == ((TOLD,), False)
    assert second.now_s >= first.now_s > 1.6e9
    assert 0 < await redis.pttl(f"{KEY}boundary-turn") < ROUND_S * 1000
    assert 0 < await redis.pttl(f"{KEY}lengths:a") <= TOLD_TTL_S * 1000


async def test_who_has_the_turn_decides_and_the_others_read_it(store: BoundaryStore) -> None:
    await store.put([RECORD])
    await store.put([])
    assert await store.records([SHORT, LONG]) == {SHORT: RECORD}
    assert await store.records([]) == {}
    assert (await store.exchange(TOLD, [SHORT])).records == {SHORT: RECORD}


async def test_who_is_gone_is_forgotten(redis: Redis, store: BoundaryStore) -> None:
    await store.exchange(TOLD, [])
    await redis.delete(f"{KEY}lengths:a")
    assert (await store.exchange(GatewaySeen(gateway="b"), [])).others == ()
    assert await redis.smembers(f"{KEY}lengths") == {"b"}


async def test_what_another_version_wrote_is_passed_over(redis: Redis, store: BoundaryStore) -> None:
    await store.exchange(TOLD, [])
    await redis.set(f"{KEY}lengths:a", '{"of": "tomorrow"}')
    await redis.set(f"{KEY}boundary:short", "[]")
    heard = await store.exchange(GatewaySeen(gateway="b"), [SHORT])
    assert (heard.others, heard.records) == ((), {})
