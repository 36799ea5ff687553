"""Clients that send too much, too slowly or too fast, against a gateway process: bounded in memory, time and order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import repeat

import pytest

from tests.gateway_process import GatewayProcess, config_of, gateway_process
from tests.http_attacks import MODEL, good
from tests.raw_http import RawConnection, connected
from tests.strict_engine import StrictEngine, serve_strict

pytestmark = pytest.mark.integration

HEADER_S = 1.0
STALL_S = 1.0
HEADER_BYTES = 16_384
LIMITS = {"header_s": HEADER_S, "client_stall_s": STALL_S, "body_bytes": 100_000, "header_bytes": HEADER_BYTES}
SLACK_S = 2.0
"""Added to limits of time: this machine runs other things too."""
FLOOD_BYTES = 32 * 2**20
GROWTH_BYTES = 16 * 2**20
"""What a flood may add to the gateway's memory: buffers of the kernel's size, far from what was sent."""
LINE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(slots=True, kw_only=True, repr=False)
class Target:
    """A gateway and the witness behind it."""

    gateway: GatewayProcess
    engine: StrictEngine

    async def still_works(self, words: str) -> None:
        assert self.gateway.is_alive, self.gateway.log.read_text()[-2000:]
        async with connected(self.gateway.port) as connection:
            answer = await connection.ask(good(words))
        assert answer.status == 200
        assert self.engine.prompts.count(words) == 1
        assert self.engine.violations == []


@pytest.fixture(scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    async with serve_strict() as engine:
        config = config_of({MODEL: [engine.url]}, limits=LIMITS)
        async with gateway_process(tmp_path_factory.mktemp("gateway"), config) as gateway:
            target = Target(gateway=gateway, engine=engine)
            await target.still_works("first")
            yield target


async def flooded(connection: RawConnection, start: bytes, parts: Iterator[bytes]) -> int:
    """Send until the peer closes or FLOOD_BYTES are gone, reading nothing; returns how much went."""
    try:
        connection.writer.write(start)
        while connection.sent_bytes < FLOOD_BYTES:
            part = next(parts)
            connection.writer.write(part)
            async with asyncio.timeout(SLACK_S):
                await connection.writer.drain()
            connection.sent_bytes += len(part)
    except (ConnectionError, TimeoutError):
        pass
    return connection.sent_bytes


FLOODS = {
    "a request line without end": (b"POST /", b"a" * 65_536),
    "a method without end": (b"", b"A" * 65_536),
    "a name without end": (LINE, b"a" * 65_536),
    "a value without end": (LINE + b"X-A: ", b"a" * 65_536),
    "headers without end": (LINE, b"X-A: 1\r\n" * 8192),
    "a chunk extension without end": (CHUNKED + b"5;", b"a" * 65_536),
    "trailers without end": (CHUNKED + b"0\r\n", b"X-A: 1\r\n" * 8192),
    "chunks of a byte without end": (CHUNKED, b"1\r\na\r\n" * 8192),
    "empty lines without end": (b"", b"\r\n" * 32_768),
    "zeros of a chunk size without end": (CHUNKED, b"0" * 65_536),
}
MAY_GO_ON = {"empty lines without end", "zeros of a chunk size without end"}
"""A parser that keeps nothing of these may read on."""


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_cut_off_and_costs_no_memory(name: str, target: Target) -> None:
    start, part = FLOODS[name]
    before_bytes, before = target.gateway.rss_bytes(), len(target.engine.bodies)
    async with connected(target.gateway.port) as connection:
        sent_bytes = await flooded(connection, start, repeat(part))
        peak_bytes = target.gateway.rss_bytes()
        # What went was taken by the kernels on both ends: the gateway stopped reading, or closed.
        assert sent_bytes < FLOOD_BYTES or name in MAY_GO_ON
        assert peak_bytes - before_bytes < GROWTH_BYTES
    assert len(target.engine.bodies) == before
    await target.still_works(f"after {name}")


HEADS = {
    "one large header": LINE + b"X-A: " + b"a" * HEADER_BYTES + b"\r\n\r\n",
    "many headers": LINE + b"X-A: 1\r\n" * (HEADER_BYTES // 8) + b"\r\n",
    "a large target": b"GET /health?" + b"a" * HEADER_BYTES + b" HTTP/1.1\r\nHost: g\r\n\r\n",
    "a head without end": LINE + b"Cookie: a\r\n" * 100 + b"X-A: " + b"b" * HEADER_BYTES,
}


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_over_the_limit_is_431(name: str, target: Target) -> None:
    async with connected(target.gateway.port) as connection:
        await connection.send(HEADS[name])
        answer = await connection.answer(read_s=SLACK_S)
        assert answer is not None
        assert answer.status in {400, 414, 431}
        assert await connection.is_closed(SLACK_S)
    await target.still_works(f"after {name}")


async def test_a_head_within_the_limit_is_taken(target: Target) -> None:
    async with connected(target.gateway.port) as connection:
        headers = {f"x_a{number}": "v" * 20 for number in range(100)}
        assert (await connection.ask(good("many headers", **headers))).status == 200
        assert (await connection.ask(good("a large header", x_a="v" * 8000))).status == 200


async def trickle(connection: RawConnection, payload: bytes, pause_s: float) -> float:
    """Send a byte at a time until the peer says or does something; returns how long that took."""
    started_s = time.monotonic()
    heard = asyncio.create_task(connection.reader.read(1))
    for byte in payload:
        await connection.send(bytes([byte]))
        await asyncio.wait({heard}, timeout=pause_s)
        if heard.done():
            break
    heard.cancel()
    return time.monotonic() - started_s


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_head_that_trickles_is_cut_off(asked_before: bool, target: Target) -> None:
    async with connected(target.gateway.port) as connection:
        if asked_before:
            assert (await connection.ask(good("before a trickle"))).status == 200
        assert await trickle(connection, LINE + b"X-A: 1", 0.1) < HEADER_S + SLACK_S
    await target.still_works(f"after a trickle {asked_before}")


async def test_half_a_head_and_silence_is_cut_off(target: Target) -> None:
    async with connected(target.gateway.port) as connection:
        await connection.send(LINE)
        answers = await connection.all_answers(read_s=HEADER_S + SLACK_S)
    assert {answer.status for answer in answers} <= {400, 408}
    await target.still_works("after half a head")


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
async def test_a_body_that_stops_is_408(framing: bytes, target: Target) -> None:
    async with connected(target.gateway.port) as connection:
        started_s = time.monotonic()
        answer = await connection.ask(LINE + framing)
        assert STALL_S * 0.9 < time.monotonic() - started_s < STALL_S + SLACK_S
        assert answer.status == 408
        assert await connection.is_closed(SLACK_S)
    await target.still_works(f"after half a body {framing[:3]!r}")


async def test_many_slow_heads_shut_nobody_out(target: Target) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(400):  # few enough for a test process with 1,024 open files
            connection = await stack.enter_async_context(connected(target.gateway.port))
            await connection.send(LINE)
        started_s = time.monotonic()
        await target.still_works("beside many")
        assert time.monotonic() - started_s < SLACK_S


@pytest.mark.parametrize("requests", [10, 200])
async def test_pipelined_requests_are_answered_in_order(requests: int, target: Target) -> None:
    words = [f"pipe {requests} {number}" for number in range(requests)]
    async with connected(target.gateway.port) as connection:
        await connection.send(b"".join(good(text, x_request_id=text.replace(" ", ".")) for text in words))
        for text in words:
            answer = await connection.ask(b"")
            assert answer.status == 200
            assert answer.header("x-request-id") == text.replace(" ", ".")
            assert answer.json()["choices"][0]["message"]["content"] == text
    assert [text for text in target.engine.prompts if text.startswith(f"pipe {requests} ")] == words


async def test_ten_thousand_pipelined_requests_are_answered_in_order_and_bounded(target: Target) -> None:
    requests = 10_000
    payload = b"".join(b"GET /health HTTP/1.1\r\nHost: g\r\nX-Request-Id: r-%d\r\n\r\n" % n for n in range(requests))
    before_bytes = target.gateway.rss_bytes()
    async with connected(target.gateway.port) as connection:
        connection.writer.write(payload)
        for number in range(requests):
            answer = await connection.answer(method="GET")
            assert answer is not None
            assert (answer.status, answer.header("x-request-id")) == (200, f"r-{number}")
            if number == requests // 2:
                # One greedy connection is no reason for another to wait.
                started_s = time.monotonic()
                await target.still_works("beside a pipeline")
                assert time.monotonic() - started_s < SLACK_S
    assert target.gateway.rss_bytes() - before_bytes < GROWTH_BYTES


async def test_a_client_that_pipelines_and_never_reads_is_made_to_wait(target: Target) -> None:
    before_bytes = target.gateway.rss_bytes()
    async with connected(target.gateway.port) as connection:
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        sent_bytes = await flooded(connection, b"", repeat(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n" * 2000))
        assert sent_bytes < FLOOD_BYTES
        assert target.gateway.rss_bytes() - before_bytes < GROWTH_BYTES
        await target.still_works("beside one that never reads")


async def test_a_broken_request_in_a_pipeline_ends_it_there(target: Target) -> None:
    broken = LINE + b"Content-Length: x\r\n\r\n"
    async with connected(target.gateway.port) as connection:
        await connection.send(good("first of three") + broken + good("third of three"))
        answers = await connection.all_answers()
    # The first may be lost with the connection, but never told as another's.
    assert [answer.status for answer in answers] in ([200, 400], [400], [200])
    assert target.engine.prompts.count("third of three") == 0
    await target.still_works("after a broken pipeline")
