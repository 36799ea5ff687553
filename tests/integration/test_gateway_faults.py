"""Engines that fail in every way they do, behind a gateway process: what its client gets, how often engines are tried.

All over sockets, for static endpoints and for replicas with leases, for every route and for streams and whole answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from cluster.core import wire
from tests.fleet import LEASED, SHAPES, STATIC, Pool, Shape, fleet, for_each
from tests.raw_http import Answer, events_of

pytestmark = pytest.mark.integration

KINDS = pytest.mark.parametrize("kind", [STATIC, LEASED])
IDLE_S = 2.0
LIMITS = {"idle_s": IDLE_S, "connect_s": 1, "client_stall_s": 1, "header_s": 2, "first_byte_s": 300}
"""Short where a dead engine shows, long where a slow one may think."""
SLOW_LIMITS = {**LIMITS, "idle_s": 3}
"""Still less than what an engine thinks; forty streams that begin in the same moment may take a second in between."""
ALL_RETRIES = {**LIMITS, "retry_ratio": 1, "resumes": 0}
"""Every shape fails at once on a gateway that served nothing yet: no share of recent requests would cover that."""
SLACK_S = 2.0
"""Added to limits of time: this machine runs other things too."""
EVERY = [(shape,) for shape in SHAPES]
STREAMS = [shape for shape in SHAPES if shape.stream]
WHOLES = [shape for shape in SHAPES if not shape.stream]


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
            answer = await pool.ask(shape)
            attempts.append(int(answer.header(wire.HEADER_ATTEMPTS) or 1))
            assert_served(answer, shape, attempts=attempts[-1])
        assert attempts[-1] == 2, "the dead engine was never tried first"
        assert set(attempts[:-1]) <= {1}
        assert sum(pool.counts) == len(attempts)

    async with fleet(tmp_path, kind, pools=len(EVERY), limits=ALL_RETRIES) as running:
        if kind == STATIC:
            await _probed(running.pools)
        await asyncio.gather(*(pool.kill_first() for pool in running.pools))
        await for_each(running, EVERY, check)


@KINDS
async def test_a_reset_before_the_first_byte_costs_one_other_attempt(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, fault: str, reset_by: str) -> None:
        pool.script.append({"reset": fault, "reset_by": reset_by})
        assert_served(await pool.ask(shape), shape, attempts=2)
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
            answer = await pool.ask(shape)
            assert_refused(answer, shape, {429, 503})
            assert 1 <= int(answer.header("retry-after") or 0) <= 60
            assert 1 <= sum(pool.counts) - before <= 2
        pool.all_do(status=200, answer_headers={})
        pool.forget()
        for _ in range(30):
            assert_served(await pool.ask(shape), shape, attempts=1)
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
            assert_refused(await pool.ask(shape), shape, {429, 503})
        assert pool.counts == [3]
        assert_served(await pool.ask(shape), shape, attempts=1)
        assert pool.counts == [4]

    cases = list(product(SHAPES, [429, 503]))
    async with fleet(tmp_path, kind, pools=len(cases), engines=1, limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_one_busy_engine_costs_one_other_attempt(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, status: int) -> None:
        pool.script.append({"status": status})
        assert_served(await pool.ask(shape), shape, attempts=2)
        assert pool.counts == [1, 1]

    cases = list(product(SHAPES, [429, 503]))
    async with fleet(tmp_path, kind, pools=len(cases), limits=ALL_RETRIES) as running:
        await for_each(running, cases, check)


@KINDS
async def test_a_stream_that_breaks_or_falls_silent_is_an_error_event_and_no_end(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, shape: Shape, fault: dict[str, str]) -> None:
        pool.script.append(fault)
        async with pool.asked(shape) as connection:
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
        async with pool.asked(shape) as connection:
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
        async with pool.asked(shape) as connection:
            answer = await connection.answer(read_s=think_s + 20)
        assert time.monotonic() - started_s >= think_s
        assert answer is not None
        assert_served(answer, shape, attempts=1)
        assert sum(pool.counts) == 1

    cases = [*product(WHOLES, [False]), *product(STREAMS, [False, True])]

    async def check_kind(kind: str) -> None:
        (tmp_path / kind).mkdir()
        async with fleet(tmp_path / kind, kind, pools=len(cases), limits=SLOW_LIMITS, think_s=think_s) as running:
            await for_each(running, cases, check)

    await asyncio.gather(check_kind(STATIC), check_kind(LEASED))


async def _probed(pools: Sequence[Pool]) -> None:
    """Wait for the gateway's next probe: for some time after it, the gateway cannot know that an engine died."""
    engines = [engine for pool in pools for engine in pool.engines]
    for engine in engines:
        engine.probed.clear()
    with contextlib.suppress(TimeoutError):  # a gateway that does not probe cannot know at all
        async with asyncio.timeout(5):
            await asyncio.gather(*(engine.probed.wait() for engine in engines))
