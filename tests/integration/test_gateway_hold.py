"""Requests for a pool without replicas: held until one serves, refused where that would be too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace

import httpx
import pytest

from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.lease import PoolName
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, Running, lease, leases_of, running
from tests.unit.core.autoscaling.test_record import DEMAND, RECORD

pytestmark = pytest.mark.integration

FROM_ZERO = """
models: [{id: tiny, output: {default_tokens: 100}}]
pools:
  - {name: short, model: tiny, context_tokens: 1000, replicas: {min: 0, max: 2}}
  - {name: long, model: tiny, context_tokens: 4000}
gateway: {limits: {queued_requests: 2}}
"""
ALONE = """
models: [{id: tiny, output: {default_tokens: 100}}]
pools: [{name: short, model: tiny, context_tokens: 1000, replicas: {min: 0, max: 2}}]
gateway: {limits: {queued_requests: 2, hold_s: %g}}
"""


class Records:
    """Decisions as the store has them: one about every pool, made now."""

    def __init__(self, startup_s: float | None) -> None:
        self.record = replace(RECORD, demand=replace(DEMAND, startup_s=startup_s), ordered_s=None)

    async def records(self, pools: Collection[PoolName]) -> dict[PoolName, AutoscaleRecord]:
        return dict.fromkeys(pools, replace(self.record, written_s=time.time()))


async def held(gateway: Running, count: int) -> None:
    await until(lambda: len(gateway.gateway.room) == count, timeout_s=10, what=f"{count} requests wait")


async def test_a_request_waits_for_the_first_replica() -> None:
    store = Leases()
    async with serve(FakeEngine()) as engine, running(ALONE % 60, store=store) as gateway:
        asked = asyncio.create_task(gateway.chat())
        await held(gateway, 1)
        assert gateway.gateway.room.standing()[PoolName("short")].requests == 1
        assert 'longreach_held_requests{pool="short"} 1.0' in await gateway.metrics()
        store.held.append(lease("short", engine.url))
        answer = await asked
    assert (answer.status_code, answer.headers["x-longreach-pool"]) == (200, "short")
    assert len(engine.seen) == 1


async def test_a_gateway_whose_pools_are_empty_is_ready() -> None:
    """Else no balancer would send it the request that makes one start."""
    async with running(ALONE % 60, store=Leases()) as gateway:
        assert (await gateway.client.get("/ready")).status_code == 200


async def test_a_deadline_before_the_start_is_refused_at_once() -> None:
    async with running(ALONE % 60, store=Leases(), records=Records(45.0)) as gateway:
        await until(lambda: gateway.gateway.scaling.records, timeout_s=10, what="the decision is read")
        answer = await ask(gateway, timeout_s=20)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "45")
    error = answer.json()["error"]
    assert error["code"] == "pool_not_started"
    assert "Pool short has no replica yet" in error["message"]


async def test_a_deadline_after_the_start_is_waited_for() -> None:
    store = Leases()
    async with serve(FakeEngine()) as engine, running(ALONE % 60, store=store, records=Records(5.0)) as gateway:
        await until(lambda: gateway.gateway.scaling.records, timeout_s=10, what="the decision is read")
        asked = asyncio.create_task(ask(gateway, timeout_s=20))
        await held(gateway, 1)
        store.held.append(lease("short", engine.url))
        assert (await asked).status_code == 200


async def test_nobody_waits_beyond_its_deadline() -> None:
    """Nothing said that the start would take longer."""
    async with running(ALONE % 60, store=Leases()) as gateway:
        answer = await ask(gateway, timeout_s=0.3)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        await held(gateway, 0)


async def test_nobody_waits_longer_than_the_limit() -> None:
    async with running(ALONE % 0.2, store=Leases()) as gateway:
        assert (await gateway.chat()).status_code == 503
    async with running(ALONE % 0, store=Leases()) as gateway:
        assert (await gateway.chat()).status_code == 429


async def test_the_queue_is_bounded() -> None:
    async with running(ALONE % 60, store=Leases()) as gateway:
        waiting = [asyncio.create_task(gateway.chat()) for _ in range(2)]
        await held(gateway, 2)
        assert (await gateway.chat()).status_code == 429
        for task in waiting:
            task.cancel()


async def test_a_larger_pool_with_room_serves_meanwhile() -> None:
    async with serve(FakeEngine()) as long, running(FROM_ZERO, store=leases_of(long=long)) as gateway:
        answer = await gateway.chat()
        assert (answer.status_code, answer.headers["x-longreach-pool"]) == (200, "long")
        # It counts for the pool it belongs to, which so gets its first replica.
        asked = gateway.gateway.dispatcher._places._demand.asked()
    assert asked.pools[PoolName("short")].requests == 1
    assert PoolName("long") not in asked.pools


async def test_a_full_larger_pool_leaves_the_wait_to_both() -> None:
    store = Leases()
    async with serve(FakeEngine()) as engine, running(FROM_ZERO, store=store) as gateway:
        # Full: a guest gets no place there.
        store.held.append(replace(lease("long", engine.url, load=4), max_running=4))
        await gateway.gateway.directory.refresh()
        asked = asyncio.create_task(gateway.chat())
        await held(gateway, 1)
        assert list(gateway.gateway.room.standing()) == [PoolName("short")]
        store.held.append(lease("short", engine.url))
        assert (await asked).headers["x-longreach-pool"] == "short"


async def test_a_pool_that_should_have_replicas_is_not_waited_for() -> None:
    """That is a fault, and another gateway or cluster may serve."""
    async with running(FROM_ZERO.replace("{min: 0, max: 2}", "{min: 1, max: 2}"), store=Leases()) as gateway:
        answer = await gateway.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica_available")


async def ask(gateway: Running, *, timeout_s: float) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-request-timeout-s": f"{timeout_s:g}"}
    return await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
