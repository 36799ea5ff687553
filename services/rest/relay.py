"""Passes an endpoint's answer on to the client as it arrives, and never lets a broken one look complete.

What lives here: the answer's head, its bytes, its end. What must not: finding the endpoint, what passing bytes mean
(events.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.core.request import InferenceRequest
from cluster.core.wire import HEADER_OUTCOME
from services.gateway.outcome import Served
from services.gateway.upstream import FailureKind, UpstreamFailure
from services.http1.answer import LAST_CHUNK, HttpDate, chunk, head
from services.http1.exchange import Exchange
from services.rest.errors import stream_error
from services.rest.events import EventFilter, usage_in

PASSED_HEADERS = ("content-type", "content-length", "content-encoding", "retry-after")
"""The only headers of an engine that a client sees: all others are hop-by-hop or nobody's business."""
EVENT_STREAM = "text/event-stream"
TAIL_BYTES = 4096
"""How much of a foreign engine's answer is kept to read its usage from: it comes last."""
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
        "_request",
        "_tail",
        "broken",
        "done",
        "is_client_gone",
        "sent_bytes",
    )

    def __init__(
        self,
        exchange: Exchange,
        request: InferenceRequest,
        served: Served,
        date: HttpDate,
    ) -> None:
        self._exchange = exchange
        self._request = request
        self._answer = served.answer
        self._is_static = served.is_static
        self._date = date
        self._filter: EventFilter | None = None
        self._frames = False
        self._head = b""
        self._tail = b""
        self.broken: UpstreamFailure | None = None
        self.is_client_gone = False
        self.sent_bytes = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        if self._filter is not None:
            return self._filter.outcome
        told = self._answer.headers.get(HEADER_OUTCOME)
        if told is not None:
            return decode_outcome(told)
        return usage_in(self._tail) if self._is_static else None

    def start(self, own_headers: Sequence[tuple[str, str]]) -> None:
        """Send the head with the first bytes; the rest follows as it comes, until `done`."""
        answer, exchange = self._answer, self._exchange
        headers = [(name, answer.headers[name]) for name in PASSED_HEADERS if name in answer.headers]
        headers += own_headers
        if answer.headers.get("content-type", "").startswith(EVENT_STREAM):
            self._filter = EventFilter(
                self._request.route,
                is_foreign=self._is_static,
                hides_usage=self._is_static and not self._request.wants_usage,
            )
            # For proxies between here and the client, which would gather tokens otherwise.
            headers += (("cache-control", "no-cache"), ("x-accel-buffering", "no"))
        if self._filter is not None or "content-length" not in answer.headers:
            headers = [item for item in headers if item[0] != "content-length"]
            if exchange.request.version == OLD_VERSION:
                exchange.keep_alive = False
            else:
                self._frames = True
                headers.append(("transfer-encoding", "chunked"))
        if exchange.is_draining or not exchange.keep_alive:
            exchange.keep_alive = False
            headers.append(("connection", "close"))
        self._head = head(answer.status, headers, self._date.line())
        exchange.on_gone = self.leave
        exchange.on_pause = answer.pause
        exchange.on_resume = answer.resume
        answer.read(self)

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
        if not self.done.done():
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
        if not self.done.done():
            self.done.set_result(None)
