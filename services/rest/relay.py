"""Passes an endpoint's answer on to the client as it arrives, and never lets a broken one look complete.

What lives here: the answer's head, its bytes, its end. What must not: finding the endpoint, what passing bytes mean
(events.py).
"""

from __future__ import annotations

import asyncio

from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.core.request import InferenceRequest
from cluster.core.wire import HEADER_OUTCOME
from services.api.account import Answering
from services.api.events import TAIL_BYTES, EventFilter, usage_in
from services.gateway.upstream import FailureKind, UpstreamFailure
from services.http1.answer import LAST_CHUNK, HttpDate, chunk, status_line
from services.http1.exchange import Exchange
from services.rest.refusal import stream_error

PASSED_HEADERS = ("content-type", "content-encoding", "retry-after")
"""With content-length, the only headers of an engine that a client sees: all others are hop-by-hop or nobody's
business."""
EVENT_STREAM = "text/event-stream"
OLD_VERSION = "1.0"


class Relay:
    """One answer on its way to its client."""

    __slots__ = (
        "_answer",
        "_date",
        "_exchange",
        "_filter",
        "_frames",
        "_head",
        "_is_static",
        "_own_lines",
        "_request",
        "_tail",
        "_waiter",
        "broken",
        "is_client_gone",
        "is_over",
        "sent_bytes",
    )

    def __init__(
        self,
        exchange: Exchange,
        request: InferenceRequest,
        answering: Answering,
        date: HttpDate,
        own_lines: str,
    ) -> None:
        """Prepare to deliver.

        Args:
            exchange: the client's side.
            request: what was asked.
            answering: the answer.
            date: for the head.
            own_lines: header lines of ours, each with its end.
        """
        self._exchange = exchange
        self._request = request
        self._answer = answering.answer
        self._is_static = answering.is_static
        self._date = date
        self._filter: EventFilter | None = None
        self._frames = False
        self._head = b""
        self._own_lines = own_lines
        self._tail = b""
        self.broken: UpstreamFailure | None = None
        self.is_client_gone = False
        self.is_over = False
        """Whether nothing more will be sent."""
        self.sent_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        if self._filter is not None:
            return self._filter.outcome
        told = self._answer.headers.get(HEADER_OUTCOME)
        if told is not None:
            return decode_outcome(told)
        return usage_in(self._tail) if self._is_static else None

    def start(self) -> None:
        """Send the head with the first bytes; the rest follows as it comes, until the answer `is_over`."""
        answer, exchange = self._answer, self._exchange
        told = answer.headers
        lines = self._own_lines
        for name in PASSED_HEADERS:
            if name in told:
                lines += f"{name}: {told[name]}\r\n"
        if told.get("content-type", "").startswith(EVENT_STREAM):
            self._filter = EventFilter(
                self._request.route,
                is_foreign=self._is_static,
                hides_usage=self._is_static and not self._request.wants_usage,
            )
            # For proxies between here and the client, which would gather tokens otherwise.
            lines += "cache-control: no-cache\r\nx-accel-buffering: no\r\n"
        if self._filter is None and "content-length" in told:
            lines += f"content-length: {told['content-length']}\r\n"
        elif exchange.request.version == OLD_VERSION:
            exchange.keep_alive = False
        else:
            self._frames = True
            lines += "transfer-encoding: chunked\r\n"
        if exchange.is_draining or not exchange.keep_alive:
            exchange.keep_alive = False
            lines += "connection: close\r\n"
        self._head = b"%b%b%b\r\n" % (status_line(answer.status), self._date.line(), lines.encode("latin-1", "replace"))
        exchange.on_gone = self.leave
        exchange.on_pause = answer.pause
        exchange.on_resume = answer.resume
        answer.read(self)

    async def ended(self) -> None:
        """Wait until nothing more will be sent."""
        if not self.is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the endpoint."""
        if self._filter is not None:
            payload = self._filter.last(payload) if is_last else self._filter.take(payload)
            if is_last and not self._filter.is_done:
                # Its HTTP ended well, its content did not: an engine's proxy may have cut it.
                self._break_off(payload, UpstreamFailure(kind=FailureKind.RESET, detail="the stream has no end"))
                return
        elif self._is_static:
            self._tail = (self._tail + payload)[-TAIL_BYTES:]
        self._send(payload, is_last=is_last)
        if is_last:
            self._exchange.finish()
            self._end()

    def broke_off(self, failure: UpstreamFailure) -> None:
        """The endpoint failed under way."""
        self._break_off(b"", failure)

    def leave(self) -> None:
        """The client has left, or its time is over: nobody reads on."""
        self.is_client_gone = True
        self._answer.close()
        self._end()

    def cancel(self, failure: UpstreamFailure) -> None:
        """End the answer under way with an error; the engine is aborted."""
        if not self.is_over:
            self._answer.close()
            self._break_off(b"", failure)

    def _break_off(self, payload: bytes, failure: UpstreamFailure) -> None:
        self.broken = failure
        if self._filter is not None:
            # Half an event is never passed on, so the error is an event of its own.
            payload += stream_error(self._request.route, failure)
        if payload or self._head:
            self._send(payload, is_last=False)
        self._exchange.cut()
        self._end()

    def _send(self, payload: bytes, *, is_last: bool) -> None:
        """One write: the head where it is not out yet, the bytes, the end."""
        self.sent_bytes += len(payload)
        if self._frames:
            if payload:
                payload = chunk(payload)
            if is_last:
                payload += LAST_CHUNK
        if self._head:
            payload = self._head + payload
            self._head = b""
        if payload:
            self._exchange.write(payload)

    def _end(self) -> None:
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
