"""Bytes that are no honest HTTP, against a gateway process: nothing crashes, nothing is read in two ways.

The engine behind it counts every request, so one that was smuggled in another's body shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.gateway_process import GatewayProcess, config_of, gateway_process
from tests.http_attacks import ATTACKS, MODEL, Attack, good, prompt
from tests.raw_http import Answer, RawConnection, connected
from tests.strict_engine import StrictEngine, serve_strict

pytestmark = pytest.mark.integration

LIMITS = {"header_s": 1, "client_stall_s": 1, "body_bytes": 100_000, "header_bytes": 16_384}
PATIENCE_S = 8.0
"""Longer than any of the limits, and than a refused body is read on: what is not closed by then never will be."""
QUIET_S = 0.1
"""After an answer, whatever else the same bytes would bring comes within this."""
AMBIGUOUS = {400, 408, 411, 413, 414, 417, 431, 501, 505}
"""After these nobody knows where the next request would begin: the connection has to end."""
EXAMPLES = 300


@dataclass(slots=True, kw_only=True)
class Victim:
    """An address inside that no request may lead to."""

    address: str
    connections: int = 0


@dataclass(slots=True, kw_only=True, repr=False)
class Target:
    """A gateway, the witness behind it, and a victim beside it."""

    gateway: GatewayProcess
    engine: StrictEngine
    victim: Victim

    async def still_works(self, marker: str) -> None:
        """The process lives, and an honest request on a new connection is served once."""
        assert self.gateway.is_alive, self.gateway.log.read_text()[-2000:]
        words = f"after {marker}"
        async with connected(self.gateway.port) as connection:
            answer = await connection.ask(good(words))
        assert answer.status == 200
        assert answer.json()["choices"][0]["message"]["content"] == words
        assert self.engine.prompts.count(words) == 1
        assert self.engine.violations == []
        assert self.victim.connections == 0


@pytest.fixture(scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    folder = tmp_path_factory.mktemp("gateway")
    victim = Victim(address="")

    async def meet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        victim.connections += 1
        writer.close()

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as listener, serve_strict() as engine:
        victim.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with gateway_process(folder, config_of({MODEL: [engine.url]}, limits=LIMITS)) as gateway:
            yield Target(gateway=gateway, engine=engine, victim=victim)


async def answers_to(connection: RawConnection, payload: bytes) -> tuple[list[Answer], bool]:
    """Everything that comes back, and whether the connection was closed."""
    await connection.send(payload)
    method = payload.partition(b" ")[0].decode("latin-1")
    found: list[Answer] = []
    while True:
        try:
            answer = await connection.answer(method=method, read_s=QUIET_S if found else PATIENCE_S)
        except TimeoutError:
            assert found, "neither answered nor closed"
            return found, False
        if answer is None:
            return found, True
        found.append(answer)


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
async def test_nothing_is_executed_that_was_not_asked_for(attack: Attack, target: Target) -> None:
    marker = f"{ATTACKS.index(attack)} {len(target.engine.bodies)}"
    before = len(target.engine.bodies)
    async with connected(target.gateway.port) as connection:
        answers, is_closed = await answers_to(connection, attack.bytes(marker, target.victim.address))
        statuses = [answer.status for answer in answers if answer.status != 100]
        if AMBIGUOUS & set(statuses):
            assert is_closed or await connection.is_closed(PATIENCE_S), f"left open after {statuses}"
            assert statuses[-1] in AMBIGUOUS
    assert all(200 <= status < 500 or status in {501, 505} for status in statuses)
    assert all(answer.header("x-request-id") != "evil" for answer in answers)
    executed = target.engine.prompts[before:]
    served = [answer for answer in answers if answer.status == 200 and b"choices" in answer.body]
    assert executed == [marker] * len(served)
    assert len(served) <= attack.may_serve
    await target.still_works(marker)


@pytest.mark.parametrize("expected", [True, False])
async def test_an_expected_continue_comes_before_the_body_and_only_where_it_is_wanted(
    expected: bool, target: Target
) -> None:
    body = prompt("continue")
    size = len(body) if expected else LIMITS["body_bytes"] + 1
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: {size}\r\n\r\n"
    async with connected(target.gateway.port) as connection:
        first = await connection.ask(head.encode())
        if expected:
            assert first.status == 100
            assert (await connection.ask(body)).status == 200
        else:
            assert first.status in {413, 417}
            # What the client sends all the same is no request.
            await connection.send(good("smuggled after a refusal"))
            assert await connection.is_closed(PATIENCE_S)
    assert "smuggled after a refusal" not in target.engine.prompts
    await target.still_works(f"expect {expected}")


async def test_what_follows_a_body_that_is_too_large_is_not_read_as_a_request(target: Target) -> None:
    size = int(LIMITS["body_bytes"]) + 1
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: {size}\r\n\r\n".encode()
    hidden = good("smuggled in a large body")
    async with connected(target.gateway.port) as connection:
        answers, is_closed = await answers_to(connection, head + b" " * (size - len(hidden)) + hidden + hidden)
        assert [answer.status for answer in answers] == [413]
        assert is_closed or await connection.is_closed(PATIENCE_S)
    assert "smuggled in a large body" not in target.engine.prompts
    await target.still_works("large")


async def test_bytes_one_at_a_time_are_the_same_request(target: Target) -> None:
    chunked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = prompt("slowly")
    chunked += b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    async with connected(target.gateway.port) as connection:
        for payload in (good("slowly"), chunked, good("slowly")):
            for byte in payload:
                await connection.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await connection.ask(b"")).status == 200
    assert target.engine.prompts.count("slowly") == 3
    await target.still_works("one at a time")


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, 1.0])
async def test_a_client_that_says_it_is_done_leaves_nothing_behind(cut: float, target: Target) -> None:
    """A whole request may still be answered or not; half of one is dropped."""
    payload = good(f"half {cut}")
    async with connected(target.gateway.port) as connection:
        await connection.send(payload[: int(len(payload) * cut)])
        connection.half_close()
        answers = await connection.all_answers(read_s=PATIENCE_S)
    assert {answer.status for answer in answers} <= ({200} if cut == 1.0 else {400, 408})
    assert len(answers) * (cut == 1.0) <= target.engine.prompts.count(f"half {cut}") <= (cut == 1.0)
    await target.still_works(f"half {cut}")


PIECES = (
    b"POST /v1/chat/completions HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Host: g\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: 75\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffff\r\n", b"X: a\r\n b\r\n",
    good("fuzz"), prompt("fuzz"), b'{"model":', b"\xff\xfe", b"A" * 20_000,
)  # fmt: skip
"""What requests are made of, whole and broken."""


def broken_requests() -> st.SearchStrategy[bytes]:
    """Anything at all; pieces of requests in any order; a good request with something cut out and put in."""
    pieces = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map(b"".join)
    payload = good("fuzz")
    place = st.integers(0, len(payload))
    patched = st.builds(
        lambda start, end, patch: payload[:start] + patch + payload[end:], place, place, st.binary(max_size=8)
    )
    return st.one_of(st.binary(max_size=4096), pieces, patched, st.tuples(patched, pieces).map(b"".join))


@pytest.mark.parametrize("closes", [True, False])
@seed(20261122)
@settings(max_examples=EXAMPLES, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=broken_requests(), parts=st.integers(1, 3))
async def test_no_bytes_crash_or_confuse_it(closes: bool, target: Target, payload: bytes, parts: int) -> None:
    before = len(target.engine.bodies)
    async with connected(target.gateway.port) as connection:
        step = len(payload) // parts + 1
        for start in range(0, len(payload), step):
            await connection.send(payload[start : start + step])
        if closes:
            connection.half_close()
            answers = await connection.all_answers(read_s=PATIENCE_S)
            assert all(answer.status < 500 or answer.status in {501, 505} for answer in answers)
        else:
            connection.reset()
    marker = f"fuzz {len(target.engine.bodies)}"
    await target.still_works(marker)
    executed = target.engine.prompts[before:]
    assert len(executed) - 1 <= payload.count(b"POST")
