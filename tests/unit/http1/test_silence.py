"""A machine that is gone is told from one that is slow to read; both are real sockets of this machine's kernel."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest
import uvloop

from services.http1.client import ClientConnection, FailureKind
from services.http1.pool import WATCH_S, ConnectionPool, Origin
from services.http1.silence import PROBE_AFTER_S, PROBE_EVERY_S, PROBES, SILENCE_S, Standing, standing
from tests.cluster_harness import until

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have some of the options only")
SHORT_S = 1.0
LARGE_BODY = 20_000_000
"""More than the kernel holds for a peer that does not read."""
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SO_ATTACH_FILTER = 26


class Answer:
    """What came of one request."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.status = 0
        self.failure: tuple[FailureKind, str] | None = None

    def head(self, status: int, headers: dict[str, str]) -> None:  # noqa: ARG002 - the status is enough
        self.status = status

    def data(self, payload: bytes, *, is_last: bool) -> None:  # noqa: ARG002 - its end is enough
        if is_last:
            self.ended.set()

    def broken(self, kind: FailureKind, detail: str) -> None:
        self.failure = (kind, detail)
        self.ended.set()


@contextlib.asynccontextmanager
async def asked(silence_s: float) -> AsyncIterator[tuple[ClientConnection, socket.socket, Answer]]:
    """A request under way to a peer that has accepted and reads only where the test does."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        pool = ConnectionPool(silence_s=silence_s)
        pool.start()
        accepting = asyncio.create_task(loop.sock_accept(listener))
        connection = await pool.connect(Origin("127.0.0.1", listener.getsockname()[1]), timeout_s=5)
        peer, _ = await accepting
        answer = Answer()
        with peer:
            yield connection, peer, answer
        await pool.close()


def ask(connection: ClientConnection, answer: Answer, body_bytes: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % body_bytes
    connection.exchange([head, bytes(body_bytes)], answer, first_s=60, idle_s=60)


def deafen(peer: socket.socket) -> None:
    """Have the kernel drop whatever comes for this socket, so that nobody acknowledges it: a machine without power."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: return 0, "keep no byte"
    peer.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


@LINUX
def test_the_kernel_watches_every_connection_to_an_endpoint() -> None:
    async def options() -> list[int]:
        async with asked(SILENCE_S) as (connection, _peer, _answer):
            sock = connection.transport.get_extra_info("socket")
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            found = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
            return found + [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the gateway's own
        assert runner.run(options()) == [1, PROBE_AFTER_S, PROBE_EVERY_S, PROBES, 0]


@LINUX
def test_a_peer_that_is_slow_to_read_is_not_taken_for_a_dead_machine() -> None:
    async def served() -> Answer:
        loop = asyncio.get_running_loop()
        async with asked(SHORT_S) as (connection, peer, answer):
            ask(connection, answer, LARGE_BODY)

            def was_looked_at() -> bool:
                """The kernel probes ever more seldom: nothing came for the limit, and the pool has looked since."""
                stands = standing(connection.transport)
                return answer.ended.is_set() or (stands is not None and stands.heard_s > SHORT_S + 1.5 * WATCH_S)

            await until(was_looked_at, timeout_s=30, what="nothing comes for longer than the limit")
            async with asyncio.timeout(30):
                read = 0
                while not answer.ended.is_set() and read < LARGE_BODY:
                    read += len(await loop.sock_recv(peer, 2**20))
                await loop.sock_sendall(peer, ANSWER)
                await answer.ended.wait()
            return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(served())
        assert answer.failure is None
        assert answer.status == 200


@LINUX
@pytest.mark.parametrize("body_bytes", [10, LARGE_BODY])
def test_a_machine_that_acknowledges_nothing_is_given_up(body_bytes: int) -> None:
    async def given_up() -> tuple[FailureKind, str] | None:
        async with asked(SHORT_S) as (connection, peer, answer):
            deafen(peer)
            ask(connection, answer, body_bytes)
            async with asyncio.timeout(SHORT_S + 10):
                await answer.ended.wait()
            return answer.failure

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failure = runner.run(given_up())
        assert failure == (FailureKind.RESET, "the machine does not answer")


@LINUX
def test_a_machine_that_dies_with_a_full_window_is_given_up() -> None:
    async def given_up() -> tuple[FailureKind, str] | None:
        async with asked(SHORT_S) as (connection, peer, answer):
            ask(connection, answer, LARGE_BODY)

            def is_full() -> bool:
                """Everything that was sent is acknowledged, and there is more to send."""
                stands = standing(connection.transport)
                return stands is not None and not stands.unacked and stands.sent_s > 0

            await until(is_full, timeout_s=10, what="the peer's window is full")
            deafen(peer)
            async with asyncio.timeout(30):
                await answer.ended.wait()
            return answer.failure

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        failure = runner.run(given_up())
        assert failure == (FailureKind.RESET, "the machine does not answer")


def test_only_who_owes_an_answer_is_silent() -> None:
    gone = Standing(unacked=3, probes=0, sent_s=3.8, heard_s=10.5)
    assert gone.is_silent(10)
    assert not gone._replace(heard_s=9.5).is_silent(10)
    assert not gone._replace(unacked=0).is_silent(10)  # nothing was asked; keepalive is for that
    assert not gone._replace(sent_s=0.1).is_silent(10)  # sent again just now: its answer may be on the way
    assert not gone._replace(sent_s=10.6).is_silent(10)  # answered since
    assert gone._replace(unacked=0, probes=3).is_silent(10)
    assert not gone._replace(unacked=0, probes=1).is_silent(10)


def test_probes_take_as_long_as_a_sign_of_life_may() -> None:
    assert PROBE_AFTER_S + PROBE_EVERY_S * PROBES == SILENCE_S
