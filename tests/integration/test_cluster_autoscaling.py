"""Pools that follow the load, on a real cluster: from zero with a held request, from one to two and back.

The figures are printed: from a request to the order of a replica, a replica's start, the held request's first token.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from redis.asyncio import Redis

from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.autoscaling.target import Bound
from cluster.core.lease import PoolName
from cluster.deployment import load_deployment
from cluster.environment import read_environment
from cluster.state.autoscale import AutoscaleStore
from cluster.state.leases import LeaseStore
from tests.cluster_harness import carrying, longreach, patient, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1500)]
CONFIG = Path(__file__).with_name("autoscaling.yaml")
CLUSTER = "autoscaling"
T = TypeVar("T")
UP_TIMEOUT_S = 600.0
START_TIMEOUT_S = 300.0
"""A start of twenty seconds, on a machine that may be busy with other things."""
SHRINK_TIMEOUT_S = 600.0
CLIENTS = 8
"""Twice what one replica of the short pool runs at once."""
ANSWER_TOKENS = 48
QUIET_GAP_S = 10.0
"""Between two answers of the client that stays: where other work slows the machine down to a tenth, one that asks every
two seconds is work for more than the four places of one replica."""


@dataclass
class Pools:
    """The running cluster."""

    url: str
    state_url: str
    env: dict[str, str]

    async def ready(self, pool: str) -> int:
        return await self._read(lambda redis: _ready(redis, pool))

    async def record(self, pool: str) -> AutoscaleRecord | None:
        return (await self._read(lambda redis: AutoscaleStore(redis, CLUSTER).records([PoolName(pool)]))).get(
            PoolName(pool)
        )

    async def past(self, pool: str) -> tuple[PastDecision, ...]:
        return await self._read(lambda redis: AutoscaleStore(redis, CLUSTER).past(PoolName(pool)))

    async def _read(self, read: Callable[[Redis], Awaitable[T]]) -> T:
        client = patient(self.state_url)
        try:
            return await read(client)
        finally:
            await client.aclose()

    def told(self, *arguments: str) -> Any:
        done = longreach(*arguments, "--config", str(CONFIG), "--json", env=self.env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


async def _ready(redis: Redis, pool: str) -> int:
    return sum(lease.pool == pool for lease in await LeaseStore(redis, CLUSTER).leases())


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pools]:
    env = {**os.environ, "LONGREACH_STATE": str(tmp_path_factory.mktemp("state"))}
    up = longreach("up", "--config", str(CONFIG), "--no-question", "--json", env=env, timeout_s=UP_TIMEOUT_S)
    run_dir = read_environment(env).run_dir(CLUSTER)
    try:
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}"
        state_url = load_deployment(run_dir / "deployment.json").state_url
        assert state_url is not None
        yield Pools(url=json.loads(up.stdout)["url"], state_url=state_url, env=env)
    finally:
        down = longreach("down", "--config", str(CONFIG), env=env)
    assert down.returncode == 0, down.stderr
    assert carrying(f"LONGREACH_RUN_DIR={run_dir}") == []


def body(model: str, tokens: int = ANSWER_TOKENS) -> dict[str, Any]:
    words = "Count the stars, one after the other, and say each number."
    return {
        "model": model, "messages": [{"role": "user", "content": words}], "max_tokens": tokens, "stream": True,
        "ignore_eos": True,
    }  # fmt: skip


async def first_token_s(client: httpx.AsyncClient, model: str) -> float:
    """Seconds until a stream's first token; it is read to its end."""
    began_s, first_s = time.monotonic(), None
    async with client.stream("POST", "/v1/chat/completions", json=body(model)) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if first_s is None and '"content"' in line:
                first_s = time.monotonic() - began_s
    assert first_s is not None
    return first_s


@dataclass
class Load:
    """Clients that ask again as soon as they are answered."""

    client: httpx.AsyncClient
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    pools: set[str] = field(default_factory=set)

    async def ask(self, goes_on: Callable[[], bool], gap_s: float = 0.0) -> None:
        while goes_on():
            text = b""
            async with self.client.stream("POST", "/v1/chat/completions", json=body("tiny")) as answer:
                async for piece in answer.aiter_bytes():
                    text += piece
            if answer.status_code == 200 and text.endswith(b"data: [DONE]\n\n") and b'data: {"error"' not in text:
                self.answered += 1
                self.pools.add(answer.headers["x-longreach-pool"])
            else:
                self.failed.append(f"{answer.status_code} {text[-200:]!r}")
            await asyncio.sleep(gap_s)


async def test_a_held_request_starts_an_empty_pool_and_is_answered(
    pools: Pools, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await pools.ready("rare") == 0
    asked_s = time.time()
    async with httpx.AsyncClient(base_url=pools.url, timeout=START_TIMEOUT_S) as client:
        task = asyncio.create_task(first_token_s(client, "rare"))
        status = await until(lambda: _held(pools), timeout_s=30, what="status shows the held request")
        assert status["held"] == 1
        ttft_s = await task
    first = (await pools.past("rare"))[-1]
    assert (first.decision.current, first.decision.replicas, first.decision.bound) == (0, 1, Bound.HELD)
    startup_s = await until(lambda: _startup_s(pools, "rare"), timeout_s=30, what="the start was measured")
    order_s = first.written_s - asked_s
    figures = f"ordered after {order_s:.2f} s, started in {startup_s:.1f} s, first token after {ttft_s:.1f} s"
    with capsys.disabled():
        sys.stdout.write(f"\nfrom zero: {figures}\n")
    # A deadline that the start would outlast is refused at once, once the pool is empty again.
    await until(lambda: _is_empty(pools, "rare"), timeout_s=SHRINK_TIMEOUT_S, what="the idle pool goes to zero")
    async with httpx.AsyncClient(base_url=pools.url, timeout=60) as client:
        headers = {"x-request-timeout-s": "1.5"}
        answer = await client.post("/v1/chat/completions", json=body("rare"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "pool_not_started")
    assert int(answer.headers["retry-after"]) > 1


async def _held(pools: Pools) -> dict[str, Any] | None:
    status = await asyncio.to_thread(pools.told, "status")
    (found,) = [pool for pool in status["pools"] if pool["name"] == "rare"]
    return found if found["held"] else None


async def _startup_s(pools: Pools, pool: str) -> float | None:
    record = await pools.record(pool)
    return None if record is None else record.demand.startup_s


async def _is_empty(pools: Pools, pool: str) -> bool:
    return await pools.ready(pool) == 0


async def test_load_takes_the_short_pool_to_two_and_back_without_an_error(
    pools: Pools, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await pools.ready("short") == await pools.ready("long") == 1
    began_s = time.time()
    is_busy, is_over = True, False
    async with httpx.AsyncClient(base_url=pools.url, timeout=START_TIMEOUT_S) as client:
        load = Load(client)
        # One goes on through the way down, when the others have stopped.
        busy = [asyncio.create_task(load.ask(lambda: is_busy)) for _ in range(CLIENTS - 1)]
        quiet = asyncio.create_task(load.ask(lambda: not is_over, QUIET_GAP_S))
        try:
            await until(lambda: _has(pools, "short", 2), timeout_s=START_TIMEOUT_S, what="a second replica serves")
            grown_s = time.time() - began_s
            is_busy = False
            await asyncio.gather(*busy)
            quiet_s = time.time()
            await until(lambda: _has(pools, "short", 1), timeout_s=SHRINK_TIMEOUT_S, what="one replica is left")
            shrunk_s = time.time() - quiet_s
        finally:
            is_busy, is_over = False, True
            await asyncio.gather(*busy, quiet)
    assert load.failed == []
    assert load.pools == {"short"}
    assert load.answered > CLIENTS
    changes = [(past.decision.current, past.decision.replicas) for past in reversed(await pools.past("short"))]
    assert changes == [(1, 2), (2, 1)]
    assert await pools.past("long") == ()
    assert await pools.ready("long") == 1
    up = (await pools.past("short"))[-1]
    figures = (
        f"{CLIENTS} clients: {load.answered} answers, ordered after {up.written_s - began_s:.1f} s by "
        f"{up.decision.bound.value}, two serve after {grown_s:.1f} s; one is left {shrunk_s:.1f} s after the load"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")


async def _has(pools: Pools, pool: str, count: int) -> bool:
    return await pools.ready(pool) == count


async def test_explain_and_pins(pools: Pools) -> None:
    told = pools.told("autoscale", "explain", "--pool", "short")
    (short,) = told["pools"]
    assert short["latest"]["demand"]["ready"] == 1
    assert short["latest"]["decision"]["reason"]
    assert short["past"]
    refused = longreach("autoscale", "pin", "short", "9", "--config", str(CONFIG), env=pools.env)
    assert refused.returncode == 1
    assert "1 to 2 replicas, not 9" in refused.stderr
    assert pools.told("autoscale", "pin", "short", "2") == {"pool": "short", "pinned": 2}

    async def is_pinned() -> bool:
        record = await pools.record("short")
        return record is not None and record.decision.bound is Bound.PINNED and record.decision.replicas == 2

    await until(is_pinned, timeout_s=30, what="the pin decides")
    assert pools.told("autoscale", "unpin", "short") == {"pool": "short", "pinned": None}
