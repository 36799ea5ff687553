"""One connection to an HTTP/1.1 server: a request's bytes out, its answer's head and pieces back as they arrive.

What must not live here: keeping connections (pool.py), what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, cast

import httptools

WRITE_HIGH_BYTES = 1024 * 1024
READ_BYTES = 16 * 1024
"""The most that one read takes: it bounds what a slow client's stream holds in memory, a thousand times over."""
ANSWER_HEAD_BYTES = 64 * 1024
"""An engine's answer has a dozen short headers; one that sends more than this is broken."""
NEVER_S = float("inf")


class FailureKind(StrEnum):
    """How an endpoint failed to answer; these are metric labels."""

    CONNECT = "connect"
    """No connection: nothing there, or nobody accepts."""
    RESET = "reset"
    """The connection broke while an answer was awaited or under way."""
    TIMEOUT = "timeout"
    """Nothing came for too long."""


class Sink(Protocol):
    """Takes an answer as it arrives. Every call comes from the event loop; none may raise."""

    def head(self, status: int, headers: dict[str, str]) -> None:
        """The head is whole; names are lower-case."""
        ...

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """What one read brought of the body, framing removed; empty only with `is_last`."""
        ...

    def broken(self, kind: FailureKind, detail: str) -> None:
        """The answer will not be complete; nothing follows."""
        ...


class ClientConnection(asyncio.BufferedProtocol):
    """A client's end of one connection."""

    transport: asyncio.Transport

    def __init__(
        self,
        buffer: memoryview,
        on_idle: Callable[[ClientConnection], None],
        on_lost: Callable[[ClientConnection], None],
    ) -> None:
        """Prepare for asyncio to connect it.

        Args:
            buffer: where reads go, shared by all connections of a loop: what is read is done with at once.
            on_idle: told after a complete answer, when another request may be sent.
            on_lost: told when the connection is gone.
        """
        self._buffer = buffer
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._is_parser_fresh = True
        """Whether the parser expects the beginning of an answer; it does so again after a whole one."""
        self._sink: Sink | None = None
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_head_done = False
        self._is_answer_done = False
        self._keep_alive = False
        self._pieces: list[bytes] = []
        self._idle_s = 0.0
        self.is_lost = False
        self.expires_s = NEVER_S
        """When the pool's sweep ends this connection, on the loop's clock: idle for too long, or silent."""

    def exchange(self, request: bytes | list[bytes], sink: Sink, *, first_s: float, idle_s: float) -> None:
        """Send a request; `sink` gets what comes back.

        Args:
            request: head and body.
            sink: takes the answer.
            first_s: the longest wait for the first byte of the answer's body.
            idle_s: the longest silence after it.
        """
        if not self._is_parser_fresh:
            self._parser = httptools.HttpResponseParser(self)
        self._is_parser_fresh = False
        self._sink = sink
        self._headers = {}
        self._head_bytes = 0
        self._is_head_done = self._is_answer_done = False
        self._pieces = []
        self._idle_s = idle_s
        self.expires_s = self._loop.time() + first_s
        if isinstance(request, bytes):
            self.transport.write(request)
        else:
            self.transport.writelines(request)

    def rest(self, keepalive_s: float) -> None:
        """Wait for another request, for so long at most."""
        self.expires_s = self._loop.time() + keepalive_s

    def abandon(self) -> None:
        """Nobody wants the rest of the answer: close at once, so that the other side stops."""
        self._sink = None
        if not self.is_lost:
            self.transport.abort()

    def pause(self) -> None:
        """Whoever takes the answer is slower than it comes; its silence is not the server's."""
        if self._sink is not None:
            self.expires_s = NEVER_S
            self.transport.pause_reading()

    def resume(self) -> None:
        """Go on reading."""
        if self._sink is not None:
            self.expires_s = self._loop.time() + self._idle_s
            self.transport.resume_reading()

    def expire(self) -> None:
        """The time this connection had is over."""
        if self._sink is not None:
            self._break(FailureKind.TIMEOUT, "no byte in time")
        else:
            self.transport.abort()

    @property
    def awaits(self) -> bool:
        """Whether an answer is under way or owed."""
        return self._sink is not None

    def cut(self, why: str) -> None:
        """Nothing more can be expected of the other side."""
        self._break(FailureKind.RESET, why)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has closed, or we have."""
        self.is_lost = True
        self._on_lost(self)
        if self._sink is None:
            return
        if self._is_head_done and self._ends_with_connection() and exc is None:
            self._is_answer_done = True
            self._deliver()
            return
        self._break(FailureKind.RESET, "the connection was closed" if exc is None else str(exc))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's guess
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of an answer."""
        data = self._buffer[:nbytes]
        sink = self._sink
        if sink is None:
            # Nothing was asked: whatever this is, the next answer must not begin with it.
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(FailureKind.RESET, f"the answer is not valid HTTP: {error}")
            return
        if not self._is_head_done:
            self._head_bytes += len(data)
            if self._head_bytes > ANSWER_HEAD_BYTES:
                self._break(FailureKind.RESET, "the answer's head is too large")
            return
        if self._pieces or self._is_answer_done:
            self.expires_s = self._loop.time() + self._idle_s
            self._deliver()

    # httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The head is whole, unless it is an interim answer's (RFC 9110, 15.2)."""
        status = self._parser.get_status_code()
        if status < 200:  # noqa: PLR2004 - interim answers
            self._headers = {}
            return
        self._is_head_done = True
        self._keep_alive = self._parser.should_keep_alive()
        if self._sink is not None:
            self._sink.head(status, self._headers)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it was an interim one."""
        if self._is_head_done:
            self._is_answer_done = True

    def _deliver(self) -> None:
        pieces = self._pieces
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        sink = self._sink
        assert sink is not None
        if self._is_answer_done:
            self._sink = None
            self.expires_s = NEVER_S
            if self.is_lost:
                pass
            elif self._keep_alive and not self.transport.is_closing():
                self._is_parser_fresh = True
                self._on_idle(self)
            else:
                self.transport.close()
        sink.data(payload, is_last=self._is_answer_done)

    def _break(self, kind: FailureKind, detail: str) -> None:
        sink, self._sink = self._sink, None
        if not self.is_lost:
            self.transport.abort()
        if sink is None:
            return
        if self._pieces:
            payload, self._pieces = b"".join(self._pieces), []
            sink.data(payload, is_last=False)
        sink.broken(kind, detail)

    def _ends_with_connection(self) -> bool:
        """Whether this answer has no other end than the connection's (RFC 9112, 6.3)."""
        return "content-length" not in self._headers and "chunked" not in self._headers.get("transfer-encoding", "")
