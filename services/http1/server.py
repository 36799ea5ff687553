"""One client connection: bytes to requests, answers to bytes, within limits.

Pipelined requests are answered in order, one at a time. What must not live here: what a request means (the handler),
listening and timeouts across connections (listener.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote_to_bytes

import httptools

from services.http1.exchange import Exchange, Fault, Handler
from services.http1.request import HttpRequest, ServerLimits

PIPELINED_MAX = 16
"""Requests that may wait on one connection; then nothing more is read from it. No client in this field pipelines."""
HEADERS_MAX = 128
"""Browsers send 20, proxies add 10."""
WRITE_HIGH_BYTES = 16 * 1024
"""Unsent bytes of an answer, beyond what the kernel holds, at which its source is made to wait."""
LINGER_S = 5.0
"""How long a body that is too large is still read and thrown away: most clients look for an answer only after their
last byte, and would see a broken connection instead of the 413."""
LINGER_FACTOR = 2
"""And how much of it, in limits."""
FRAMING_RATIO = 16
"""Bytes of chunk framing for a byte of body: chunks of one byte have 5, and only an attacker sends more."""
FRAMING_HEADS = 2
"""Beside it, in `header_bytes`: the head itself, and one more for extensions and trailers."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER_S = float("inf")


class ServerConnection(asyncio.Protocol):
    """An HTTP/1.1 server's end of one connection."""

    transport: asyncio.Transport

    def __init__(
        self, handler: Handler, limits: Callable[[], ServerLimits], connections: set[ServerConnection]
    ) -> None:
        self._handler = handler
        self._limits_now = limits
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: Exchange | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._request: HttpRequest | None = None
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._head_fed_bytes = 0
        self._framing_bytes = 0
        self._unframed_bytes = 0
        self._is_message_done = False
        self._fault: Fault | None = None
        self._discarding_until_bytes = 0
        self._is_deaf = False
        self._is_closing = False
        self._is_write_paused = False
        self.is_draining = False
        self.peer = ""
        self.expires_s = _NEVER_S
        """When the listener's sweep ends this connection, on the loop's clock."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) and name else ""
        self._limits = self._limits_now()
        self._connections.add(self)
        # A connection that never sends a byte is a slow head too.
        self.expires_s = self._loop.time() + self._limits.header_s

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio gives it
        """The client has left, or was sent away."""
        self._connections.discard(self)
        self._is_closing = True
        self._waiting.clear()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.gone()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if self._is_closing or self._is_deaf:
            return
        if self._discarding_until_bytes:
            self._discard(len(data))
            return
        self._is_message_done = False
        self._unframed_bytes = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # What asked for it is answered as plain HTTP; what follows is another protocol's.
            self._refuse(Fault(400, "bad_request", "This server does not switch protocols."))
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and self._fault is None:
                raise  # a defect of ours, not the client's
            self._refuse(self._fault or Fault(400, "bad_request", f"The request is not valid HTTP: {error}."))
        else:
            self._watch_progress(len(data))

    def eof_received(self) -> bool:
        """A client that closes its side has left: no client in this field sends half a close and waits."""
        return False

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._is_write_paused = True
        self.expires_s = self._loop.time() + self._limits.unread_s
        if self._exchange is not None and self._exchange.on_pause is not None:
            self._exchange.on_pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._is_write_paused = False
        self.expires_s = _NEVER_S
        if self._exchange is None:
            self._next()
        elif self._exchange.on_resume is not None:
            self._exchange.on_resume()

    # httptools' side

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._request = HttpRequest()
        self._url = b""
        self._body = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._framing_bytes = 0
        if self._exchange is None:
            self.expires_s = self._loop.time() + self._limits.header_s

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self._url += url
        self._head_bytes += len(url)
        self._bound_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        request = self._request
        assert request is not None
        self._head_bytes += len(name) + len(value) + 4
        self._bound_head()
        if request.method:
            return  # A trailer: it came after everything was decided, and nothing here has a use for one.
        headers = request.headers
        key = name.decode("latin-1").lower()
        if key in headers:
            if key == "host":
                self._stop(Fault(400, "bad_request", "The request has two Host headers."))
            headers[key] = f"{headers[key]}, {value.decode('latin-1')}"
            if len(headers[key]) > self._limits.header_bytes:
                self._stop_head()
            return
        headers[key] = value.decode("latin-1")
        if len(headers) > HEADERS_MAX:
            self._stop_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        request = self._request
        assert request is not None
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        path, _, request.query = self._url.partition(b"?")
        if not path.startswith(b"/"):
            path = _absolute(path)
        request.path = (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")
        self._head_fed_bytes = 0
        headers = request.headers
        self._bound_body(headers)
        if "expect" in headers and headers["expect"].lower() == "100-continue" and self._exchange is None:
            self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        self._unframed_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._discarding_until_bytes = self._limits.body_bytes * LINGER_FACTOR
            self._stop(self._too_large())
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        request = self._request
        assert request is not None
        self._is_message_done = True
        self._head_fed_bytes = 0
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._request = None
        self._body = []
        if self._exchange is None and not self._waiting and not self._is_write_paused:
            self._begin(request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= PIPELINED_MAX:
            self.transport.pause_reading()

    # answers

    def finished(self, *, keep_alive: bool) -> None:
        """The current answer is complete."""
        self._exchange = None
        if self._is_closing:
            return
        if not keep_alive or self.is_draining:
            self._close()
            return
        if self._waiting:
            # Not at once: a thousand pipelined requests must neither recurse nor hold the loop.
            self._loop.call_soon(self._next)
        elif not self._is_write_paused:
            self.expires_s = self._loop.time() + self._limits.keepalive_s

    def drain(self) -> None:
        """Close once the current answer is out."""
        self.is_draining = True
        if self._exchange is None and self._request is None and not self._waiting:
            self._close()

    def expire(self) -> None:
        """The time this connection had is over."""
        self.expires_s = _NEVER_S
        if self._exchange is not None:
            if self._is_write_paused:
                self.transport.abort()
        elif self._request is not None and self._request.method and not self._discarding_until_bytes:
            stalled = f"The body stopped arriving for {self._limits.stall_s:g} s."
            self._refuse(Fault(408, "client_stalled", stalled))
        else:
            self.transport.abort()

    def _next(self) -> None:
        # Who does not read answers gets no further ones.
        if self._exchange is None and self._waiting and not self._is_closing and not self._is_write_paused:
            if len(self._waiting) == PIPELINED_MAX:
                self.transport.resume_reading()
            self._begin(self._waiting.popleft())

    def _begin(self, request: HttpRequest) -> None:
        self.expires_s = _NEVER_S
        self._exchange = Exchange(self, request)
        self._handler(request, self._exchange)

    def _watch_progress(self, fed_bytes: int) -> None:
        """More bytes came; is the request that they belong to still within its limits?"""
        request = self._request
        if request is None or not request.method:
            if request is None and self._is_message_done:
                return
            # The parser keeps an unfinished header line to itself, so what was fed is counted, not what was parsed.
            # Of a read that ended a request before, the rest is at most one read.
            self._head_fed_bytes += 0 if self._is_message_done else fed_bytes
            if self._head_fed_bytes > self._limits.header_bytes:
                self._refuse(self._head_fault())
            return
        self._framing_bytes += fed_bytes - self._unframed_bytes
        if self._framing_bytes > FRAMING_HEADS * self._limits.header_bytes + FRAMING_RATIO * self._body_bytes:
            self._refuse(Fault(400, "bad_request", "The body's chunks are nearly all framing."))
        elif self._exchange is None:
            self.expires_s = self._loop.time() + self._limits.stall_s

    def _bound_head(self) -> None:
        if self._head_bytes > self._limits.header_bytes:
            self._stop_head()

    def _stop_head(self) -> None:
        self._stop(self._head_fault())

    def _head_fault(self) -> Fault:
        limit = f"{self._limits.header_bytes:,} bytes or {HEADERS_MAX} lines"
        return Fault(431, "headers_too_large", f"The request's head is over {limit}, the limit of this gateway.")

    def _bound_body(self, headers: dict[str, str]) -> None:
        announced = headers.get("content-length")
        if announced is None or int(announced) <= self._limits.body_bytes:
            return
        if "expect" not in headers:
            self._discarding_until_bytes = self._limits.body_bytes * LINGER_FACTOR
        self._stop(self._too_large())

    def _too_large(self) -> Fault:
        return Fault(
            413,
            "body_too_large",
            f"The body is larger than {self._limits.body_bytes:,} bytes, the limit of this gateway.",
        )

    def _stop(self, fault: Fault) -> None:
        """End parsing from inside a callback; httptools wraps what is raised."""
        self._fault = fault
        raise _StoppedError

    def _refuse(self, fault: Fault) -> None:
        """Answer bytes that cannot be served. Requests before them on this connection are answered first, or not."""
        if self._exchange is not None or self._waiting:
            # The answer under way must stay whole; what follows it is lost with the connection.
            self._waiting.clear()
            self.is_draining = True
            self._is_deaf = True
            if self._exchange is None:
                self._close()
            return
        self.transport.write(self._handler.fault(fault, self._request))
        if self._discarding_until_bytes:
            self.expires_s = self._loop.time() + LINGER_S
        else:
            self._close()

    def _discard(self, size_bytes: int) -> None:
        self._discarding_until_bytes -= size_bytes
        if self._discarding_until_bytes <= 0:
            self._close()

    def _close(self) -> None:
        self._is_closing = True
        self.expires_s = self._loop.time() + self._limits.unread_s
        self.transport.close()


class _StoppedError(Exception):
    """Ends httptools' parsing; the fault is kept on the connection."""


def _absolute(target: bytes) -> bytes:
    """The path of an absolute-form target (RFC 9112, 3.2.2); other forms stay as they are and match no route."""
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in {b"http", b"https"}:
        return target
    slash = rest.find(b"/")
    return b"/" if slash < 0 else rest[slash:]
