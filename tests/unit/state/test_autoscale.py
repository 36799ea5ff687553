"""Demand, decisions and pins in a real Valkey server."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from cluster.core.autoscaling.asked import GATEWAY_TTL_S, GatewayAsked, PoolAsked
from cluster.core.autoscaling.record import PastDecision
from cluster.core.lease import PoolName
from cluster.state.autoscale import PAST_MAX, AutoscaleStore
from tests.unit.core.autoscaling.test_record import DECISION, RECORD

SHORT, LONG = PoolName("short"), PoolName("long")
KEY = "longreach:{c}:"


@pytest.fixture
def store(redis: Redis) -> AutoscaleStore:
    return AutoscaleStore(redis, "c")


async def test_gateways_tell_and_their_word_expires(redis: Redis, store: AutoscaleStore) -> None:
    first = GatewayAsked(gateway="a", pools={SHORT: PoolAsked(held=2)})
    second = GatewayAsked(gateway="b")
    assert await store.asked() == ()
    await store.put_asked(second)
    await store.put_asked(first)
    assert await store.asked() == (first, second)
    assert 0 < await redis.pttl(f"{KEY}asked:a") <= GATEWAY_TTL_S * 1000
    await redis.delete(f"{KEY}asked:a")
    assert await store.asked() == (second,)
    assert await redis.smembers(f"{KEY}gateways") == {"b"}
    await store.drop_asked("b")
    assert await store.asked() == ()


async def test_what_another_version_wrote_is_passed_over(redis: Redis, store: AutoscaleStore) -> None:
    await store.put_asked(GatewayAsked(gateway="a"))
    await redis.set(f"{KEY}asked:a", '{"of": "tomorrow"}')
    await redis.set(f"{KEY}autoscale:short", "[]")
    await redis.set(f"{KEY}pin:short", "many")
    await redis.lpush(f"{KEY}autoscale-past:short", "{")
    assert await store.asked() == ()
    assert await store.records([SHORT]) == {}
    assert await store.pins([SHORT]) == {}
    assert await store.past(SHORT) == ()


async def test_the_latest_decision(redis: Redis, store: AutoscaleStore) -> None:
    await store.put_record(RECORD)
    assert await store.records([SHORT, LONG]) == {SHORT: RECORD}
    assert await store.records([]) == {}
    assert await redis.ttl(f"{KEY}autoscale:short") > 0


async def test_as_many_past_decisions_as_there_is_room_for(redis: Redis, store: AutoscaleStore) -> None:
    for number in range(PAST_MAX + 3):
        await store.add_past(PastDecision(written_s=number, decision=DECISION))
    found = await store.past(SHORT)
    assert [past.written_s for past in found] == list(range(PAST_MAX + 2, 2, -1))
    assert len(await store.past(SHORT, 2)) == 2
    assert await redis.ttl(f"{KEY}autoscale-past:short") > 0


async def test_pins(store: AutoscaleStore) -> None:
    await store.pin(SHORT, 0)
    await store.pin(LONG, 3)
    assert await store.pins([SHORT, LONG]) == {SHORT: 0, LONG: 3}
    await store.pin(LONG, None)
    assert await store.pins([SHORT, LONG]) == {SHORT: 0}
