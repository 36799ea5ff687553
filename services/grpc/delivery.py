"""An engine's answer on its way to a gRPC client: whole, or message by message as its events arrive.

The engine is read no faster than the client takes: what waits is bounded, and only this stream's engine is made to
wait. What must not live here: finding the endpoint, what events mean (deltas.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.core.request import Route
from cluster.core.wire import HEADER_OUTCOME
from services.api.account import Answering
from services.api.events import EventFilter, usage_in
from services.api.refusals import Refusal
from services.gateway.upstream import FailureKind, UpstreamFailure
from services.grpc.calls import Context
from services.grpc.deltas import StreamEncoder
from services.grpc.engine_error import unusable

WAITING_MAX_BYTES = 64 * 1024
"""Events that wait for a slow client, beside what one read of the engine brings and what gRPC holds: 300 tokens."""
EVENT_MAX_BYTES = 32 * 2**20
"""The ids of a prompt of a million tokens come in one event, of 7 MB."""
WHOLE_MAX_BYTES = 512 * 2**20
"""A whole answer with 20 logprobs at each of 100,000 tokens has 150 MB of JSON; more is a broken engine."""
EVENT_STREAM = "text/event-stream"
ERROR_STATUS = 400
"""HTTP's errors begin here."""

Metadata = Sequence[tuple[str, str]]


def is_stream(answering: Answering) -> bool:
    """Whether an answer is a stream of events; an engine's error is none, whatever was asked."""
    answer = answering.answer
    return answer.status < ERROR_STATUS and answer.headers.get("content-type", "").startswith(EVENT_STREAM)


class _Delivery:
    """What both kinds share: waiting for the engine."""

    def __init__(self, answering: Answering) -> None:
        self._answer = answering.answer
        self._is_static = answering.is_static
        self._is_complete = False
        self._waiter: asyncio.Future[None] | None = None
        self.broken: UpstreamFailure | None = None
        self.is_client_gone = False
        self.is_over = False
        self.sent_bytes = 0

    def start(self) -> None:
        """Begin to take the engine's bytes."""
        self._answer.read(self)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the endpoint."""
        raise NotImplementedError

    def broke_off(self, failure: UpstreamFailure) -> None:
        """The endpoint failed under way."""
        self.broken = failure
        self._is_complete = True
        self._wake()

    def cancel(self, failure: UpstreamFailure) -> None:
        """End the answer under way; the engine is aborted."""
        if not self._is_complete:
            self._answer.close()
            self.broke_off(failure)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class WholeDelivery(_Delivery):
    """An answer that is gathered: `body` has it once it is over and not broken."""

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._parts: list[bytes] = []
        self.body = b""

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        told = self._answer.headers.get(HEADER_OUTCOME)
        if told is not None:
            return decode_outcome(told)
        return usage_in(self.body) if self._is_static else None

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the endpoint."""
        self._parts.append(payload)
        self.sent_bytes += len(payload)
        if is_last:
            self._is_complete = True
            self._wake()
        elif self.sent_bytes > WHOLE_MAX_BYTES:
            self.cancel(UpstreamFailure(kind=FailureKind.RESET, detail=f"the answer is over {WHOLE_MAX_BYTES} bytes"))

    async def ended(self) -> None:
        """Wait until all of it is here."""
        while not self._is_complete:
            await self._wait()
        self.body = b"".join(self._parts)
        self._parts.clear()
        self.is_over = True


class StreamDelivery(_Delivery):
    """A stream: every message has what has come since the one before; the first goes at once."""

    def __init__(
        self,
        answering: Answering,
        route: Route,
        encoder: StreamEncoder,
        *,
        call: Context,
        metadata: Metadata,
        unread_s: float,
    ) -> None:
        """Prepare to deliver.

        Args:
            answering: the answer.
            route: what was asked.
            encoder: makes messages of events.
            call: the client's side.
            metadata: sent before the first message.
            unread_s: the longest a client may leave a message unread.
        """
        super().__init__(answering)
        self._filter = EventFilter(route, is_foreign=self._is_static, hides_usage=False, held_max_bytes=EVENT_MAX_BYTES)
        self._encoder = encoder
        self._call = call
        self._metadata = metadata
        self._unread_s = unread_s
        self._loop = asyncio.get_running_loop()
        self._events: list[bytes] = []
        self._events_bytes = 0
        self._is_paused = False
        self._writes_since_s: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self.error: Refusal | None = None
        """What the engine said instead of going on."""

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        return self._filter.outcome

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the endpoint."""
        events = self._filter.last(payload) if is_last else self._filter.take(payload)
        if events:
            self._events.append(events)
            self._events_bytes += len(events)
        if is_last:
            if not self._filter.is_done:
                # Its HTTP ended well, its content did not: an engine's proxy may have cut it.
                self.broken = UpstreamFailure(kind=FailureKind.RESET, detail="the stream has no end")
            self._is_complete = True
        elif self._events_bytes > WAITING_MAX_BYTES and not self._is_paused:
            self._is_paused = True
            self._answer.pause()
        self._wake()

    async def ended(self) -> None:
        """Send messages until nothing more will be sent.

        Raises:
            asyncio.CancelledError: the client has left, or reads nothing.
        """
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._unread_s, self._look)
        try:
            await self._call.send_initial_metadata(self._metadata)
            while True:
                if self._events:
                    await self._send(self._taken())
                elif self._is_complete:
                    break
                else:
                    await self._wait()
        finally:
            self._timer.cancel()
        self.is_over = True

    def cancel(self, failure: UpstreamFailure) -> None:
        """End the answer under way; the engine is aborted, and what waits for the client is not waited for."""
        super().cancel(failure)
        if not self.is_over and self._writes_since_s is not None:
            self.broken = failure
            assert self._task is not None
            self._task.cancel()

    def _taken(self) -> bytes:
        events = self._events[0] if len(self._events) == 1 else b"".join(self._events)
        self._events.clear()
        self._events_bytes = 0
        if self._is_paused:
            self._is_paused = False
            self._answer.resume()
        return events

    async def _send(self, events: bytes) -> None:
        if self.error is not None:
            return  # what follows an error tells what it cost, and nothing to the client
        try:
            message = self._encoder.message(events)
        except (ValueError, LookupError, TypeError, AttributeError):
            self._answer.close()
            self._is_complete = True
            self.error = unusable()
            return
        self.error = self._encoder.error
        if not message:
            return
        self.sent_bytes += len(message)
        self._writes_since_s = self._loop.time()
        await self._call.write(message)
        self._writes_since_s = None

    def _look(self) -> None:
        """Give up where a message has been unread for too long: its slot in the engine is others' now."""
        since_s = self._writes_since_s
        left_s = self._unread_s if since_s is None else since_s + self._unread_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.is_client_gone = True
        assert self._task is not None
        self._task.cancel()
