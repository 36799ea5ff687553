"""Engines that fail in every way they do, behind a gateway process: what its client gets, how often engines are tried.

All over sockets, for static endpoints and for replicas with leases, for every route and for streams and whole answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cluster.core import wire
from tests.fleet import LEASED, SHAPES, STATIC, Pool, Shape, fleet, for_each
from tests.raw_http import Answer, RawConnection, connected, events_of

pytestmark = pytest.mark.integration

KINDS = pytest.mark.parametrize("kind", [STATIC, LEASED])
IDLE_S = 1.0
LIMITS = {"idle_s": IDLE_S, "connect_s": 1, "client_stall_s": 1, "header_s": 2, "first_byte_s": 300}
"""Short where a dead engine shows, long where a slow one may think."""
ALL_RETRIES = {**LIMITS, "retry_ratio": 1}
"""Every shape fails at once on a gateway that served nothing yet: no share of recent requests would cover that."""
SLACK_S = 2.0
"""Added to limits of time: this machine runs other things too."""
EVERY = [(shape,) for shape in SHAPES]
STREAMS = [shape for shape in SHAPES if shape.stream]
WHOLES = [shape for shape in SHAPES if not shape.stream]
TRIES = 5
"""A quick thing may be slowed by the machine; it never becomes quick by chance. So the best of a few tries counts."""


@asynccontextmanager
async def asked(pool: Pool, shape: Shape) -> AsyncIterator[RawConnection]:
    """A connection on which `pool` was asked."""
    async with connected(pool.port) as connection:
        await connection.send(pool.request(shape))
        yield connection


async def ask(pool: Pool, shape: Shape) -> Answer:
    async with asked(pool, shape) as connection:
        answer = await connection.answer()
    assert answer is not None, "closed without an answer"
    return answer


def assert_served(answer: Answer, shape: Shape, *, attempts: int) -> None:
    assert (answer.status, answer.is_complete) == (200, True), answer.body
    assert int(answer.header(wire.HEADER_ATTEMPTS) or 1) == attempts
    if shape.stream:
        events = events_of(answer.body)
        assert "token4 " in str(events)
        assert (events[-1].data == "[DONE]") is shape.ends_with_done
        assert not any("error" in event.data for event in events)
    else:
        assert b"hi from" in answer.body


def assert_refused(answer: Answer, shape: Shape, statuses: set[int]) -> None:
    """An error in the form that clients of the route read."""
    assert answer.status in statuses
    assert answer.is_complete
    assert answer.header("content-type") == "application/json"
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"]
    assert (answer.json().get("type") == "error") is shape.path.endswith("messages")


def assert_error_event(answer: Answer, shape: Shape) -> None:
    """A stream that says it broke off: whole events, an error as the last of them, and no sign of an end."""
    assert answer.status == 200
    assert not answer.is_complete, "the terminating chunk came"
    *before, last = events_of(answer.body)
    assert "token1 " in str(before)
    assert b"[DONE]" not in answer.body
    assert not {"message_stop", "response.completed", "error"} & {event.name for event in before}
    assert not any("error" in event.data for event in before)
    if shape.path.endswith("messages"):
        assert (last.name, last.data["type"]) == ("error", "error")
        assert last.data["error"]["type"] == "api_error"
        assert last.data["error"]["message"]
    elif shape.path.endswith("responses"):
        assert (last.name, last.data["type"]) == ("error", "error")
        assert last.data["message"]
        assert last.data["code"].startswith("upstream_")
    else:
        assert last.data["error"]["message"]
        assert last.data["error"]["code"].startswith("upstream_")


@KINDS
async def test_a_refused_connection_costs_one_other_attempt(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape) -> None:
        attempts: list[int] = []
        while 2 not in attempts and len(attempts) < 20:
            answer = await ask(pool, shape)
            attempts.append(int(answer.header(wire.HEADER_ATTEMPTS) or 1))
            assert_served(answer, shape, attempts=attempts[-1])
        assert attempts[-1] == 2, "the dead engine was never tried first"
        assert set(attempts[:-1]) <= {1}
        assert sum(pool.counts) == len(attempts)

    async with fleet(tmp_path, kind, pools=len(EVERY), limits=ALL_RETRIES) as running:
        if kind == STATIC:
            await _probed(running.pools)
        await asyncio.gather(*(_kill(pool) for pool in running.pools))
        await for_each(running, EVERY, check)


@KINDS
async def test_a_reset_before_the_first_byte_costs_one_other_attempt(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, fault: str, reset_by: str) -> None:
        pool.script.append({"reset": fault, "reset_by": reset_by})
        assert_served(await ask(pool, shape), shape, attempts=2)
        assert pool.counts == [1, 1], "the other engine was not asked"

    cases = list(product(SHAPES, ["before-head"], ["reset", "close"]))
    # A whole answer's head may be out already when its body fails: only streams wait for both.
    cases += product(STREAMS, ["after-head"], ["reset", "close"])
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_overload_is_told_with_retry_after_and_opens_no_breaker(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, status: int, headers: dict[str, str]) -> None:
        pool.all_do(status=status, answer_headers=headers)
        for _ in range(3):
            before = sum(pool.counts)
            answer = await ask(pool, shape)
            assert_refused(answer, shape, {429, 503})
            assert 1 <= int(answer.header("retry-after") or 0) <= 60
            assert 1 <= sum(pool.counts) - before <= 2
        pool.all_do(status=200, answer_headers={})
        pool.forget()
        for _ in range(30):
            assert_served(await ask(pool, shape), shape, attempts=1)
            if all(pool.counts):
                break
        assert all(pool.counts), "an engine that was busy is not asked any more"

    cases = list(product(SHAPES, [429, 503], [{}, {"retry-after": "7"}]))
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_the_only_engine_is_not_asked_twice_when_busy_and_again_when_not(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, status: int) -> None:
        for _ in range(3):
            pool.script.append({"status": status})
            assert_refused(await ask(pool, shape), shape, {429, 503})
        assert pool.counts == [3]
        assert_served(await ask(pool, shape), shape, attempts=1)
        assert pool.counts == [4]

    cases = list(product(SHAPES, [429, 503]))
    async with fleet(tmp_path, kind, pools=len(cases), engines=1, limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_one_busy_engine_costs_one_other_attempt(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, status: int) -> None:
        pool.script.append({"status": status})
        assert_served(await ask(pool, shape), shape, attempts=2)
        assert pool.counts == [1, 1]

    cases = list(product(SHAPES, [429, 503]))
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_a_stream_that_breaks_or_falls_silent_is_an_error_event_and_no_end(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, fault: dict[str, str]) -> None:
        pool.script.append(fault)
        async with asked(pool, shape) as connection:
            started_s = time.monotonic()
            answer = await connection.answer()
            assert await connection.is_closed(SLACK_S)
            assert time.monotonic() - started_s < IDLE_S + SLACK_S
        assert answer is not None
        assert_error_event(answer, shape)
        assert sum(pool.counts) == 1
        if "hang" in fault:  # and the engine is not left at work
            async with asyncio.timeout(SLACK_S):
                await asyncio.gather(*(engine.aborted.wait() for engine in pool.engines if engine.seen))

    faults = [
        {"reset": "mid-stream", "reset_by": "reset"},
        {"reset": "mid-stream", "reset_by": "close"},
        {"hang": "mid-stream"},
        {"hang": "half-chunk"},
    ]
    cases = list(product(STREAMS, faults))
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_half_a_whole_answer_is_never_passed_off_as_whole(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, fault: dict[str, str]) -> None:
        pool.script.append(fault)
        async with asked(pool, shape) as connection:
            started_s = time.monotonic()
            answer = await connection.answer()
            assert time.monotonic() - started_s < IDLE_S + SLACK_S
        assert sum(pool.counts) <= 2
        if answer is None or not answer.is_complete:
            assert sum(pool.counts) == 1
        elif answer.status == 200:
            assert_served(answer, shape, attempts=2)
        else:
            assert_refused(answer, shape, {502, 503, 504})

    cases = list(product(WHOLES, [{"reset": "mid-stream"}, {"hang": "mid-stream"}, {"reset": "after-head"}]))
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@pytest.mark.parametrize("think_s", [6, pytest.param(76, marks=pytest.mark.slow)])
async def test_slow_to_the_first_token_is_not_dead(think_s: float, tmp_path: Path) -> None:
    """76 s: what a prefill of 200,000 tokens takes on two cores."""

    async def check(pool: Pool, shape: Shape, thinks_after_head: bool) -> None:
        pool.all_do(thinks_after_head=thinks_after_head)
        started_s = time.monotonic()
        async with asked(pool, shape) as connection:
            answer = await connection.answer(read_s=think_s + 20)
        assert time.monotonic() - started_s >= think_s
        assert answer is not None
        assert_served(answer, shape, attempts=1)
        assert sum(pool.counts) == 1

    cases = [*product(WHOLES, [False]), *product(STREAMS, [False, True])]

    async def check_kind(kind: str) -> None:
        (tmp_path / kind).mkdir()
        async with fleet(tmp_path / kind, kind, pools=len(cases), limits=LIMITS, think_s=think_s) as running:
            await for_each(running, cases, check)

    await asyncio.gather(check_kind(STATIC), check_kind(LEASED))


@KINDS
async def test_with_one_engine_of_two_down_none_of_200_requests_fails(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, killed_after: int) -> None:
        statuses: list[int] = []

        async def client() -> None:
            while len(statuses) < 200:
                statuses.append((await pool.post(running.client)).status_code)
                if len(statuses) == killed_after:
                    await _kill(pool)

        if killed_after == 0:
            await _kill(pool)
        await asyncio.gather(*(client() for _ in range(8)))
        assert [status for status in statuses if status != 200] == []
        assert (pool.counts[0] > 0) is (killed_after > 0)

    async with fleet(tmp_path, kind, pools=2, think_s=0.02, limits={"connect_s": 1}) as running:
        await for_each(running, [(0,), (100,)], check)


@KINDS
async def test_a_client_that_leaves_reaches_the_engine_within_100_ms(kind: str, tmp_path: Path) -> None:
    async def leave(pool: Pool, shape: Shape, when: str, leaves_by: str) -> float:
        """Seconds from the client's leaving to the engine's noticing."""
        engine = pool.engines[0]
        engine.aborted.clear()
        engine.started.clear()
        async with asked(pool, shape) as connection:
            await asyncio.wait_for(engine.started.wait(), 5)
            if when == "after the first byte" and shape.stream:
                await asyncio.wait_for(connection.reader.readuntil(b"token1 "), 5)
            else:
                await asyncio.sleep(0.1)  # the engine has done what it does: nothing comes that could be waited for
            left_s = time.monotonic()
            connection.reset() if leaves_by == "reset" else connection.close()
            await asyncio.wait_for(engine.aborted.wait(), 5)
        return engine.aborted_s[-1] - left_s

    async def check(pool: Pool, shape: Shape, when: str, leaves_by: str) -> None:
        if when == "before the first byte":
            pool.all_do(think_s=60)
        elif shape.stream:
            pool.all_do(tokens=100_000, token_delay_s=0.02)
        else:
            pool.all_do(hang="mid-stream")
        found: list[float] = []
        while len(found) < TRIES and min(found, default=1) >= 0.1:
            found.append(await leave(pool, shape, when, leaves_by))
        assert min(found) < 0.1
        assert pool.counts == [len(found)]

    limits = {**LIMITS, "idle_s": 60}
    cases = list(product(SHAPES, ["before the first byte", "after the first byte"], ["close", "reset"]))
    async with fleet(tmp_path, kind, pools=len(cases), engines=1, limits=limits) as running:
        # One after the other: together they would measure the machine.
        for pool, case in zip(running.pools, cases, strict=True):
            await check(pool, *case)


@pytest.mark.parametrize(
    ("kind", "fault"), [(STATIC, {"reset": "before-head"}), (LEASED, {"status": 503}), (STATIC, {"status": 429})]
)
async def test_engines_that_all_fail_are_not_stormed(kind: str, fault: dict[str, Any], tmp_path: Path) -> None:
    requests, attempts, retry_ratio, first_retries = 100, 2, 0.2, 10
    limits = {**LIMITS, "attempts": attempts, "retry_ratio": retry_ratio}
    async with fleet(tmp_path, kind, engines=4, limits=limits, **fault) as running:
        pool = running.pools[0]
        answers = await asyncio.gather(*(pool.post(running.client) for _ in range(requests)))
        sent = sum(pool.counts)
    assert all(answer.status_code in {429, 502, 503} for answer in answers)
    assert all("retry-after" in answer.headers for answer in answers)
    # A budget has to allow something before there are recent requests: up to `first_retries`.
    assert sent <= requests * (1 + retry_ratio) + first_retries


async def _probed(pools: Sequence[Pool]) -> None:
    """Wait for the gateway's next probe: for some time after it, the gateway cannot know that an engine died."""
    engines = [engine for pool in pools for engine in pool.engines]
    for engine in engines:
        engine.probed.clear()
    with contextlib.suppress(TimeoutError):  # a gateway that does not probe cannot know at all
        async with asyncio.timeout(5):
            await asyncio.gather(*(engine.probed.wait() for engine in engines))


async def _kill(pool: Pool) -> None:
    """The first engine's process is gone: nobody listens, connections are reset."""
    kill = pool.engines[0].kill
    assert kill is not None
    await kill()
