"""An engine's answer on its way to a tape: what a delivery is to a client, for an answer that several may read.

What must not live here: the tape's readers (tape.py), finding the engine.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from cluster.core.idempotency import KeptAnswer
from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.core.request import Route
from cluster.core.wire import HEADER_OUTCOME
from services.api.account import Ending, Source, ending_of
from services.api.events import TAIL_BYTES, EventFilter, usage_in
from services.api.tape import Tape, TapeRoom
from services.gateway.upstream import FailureKind, UpstreamFailure

EVENT_STREAM = "text/event-stream"
KEPT_HEADERS = ("content-type", "content-encoding", HEADER_OUTCOME)
"""Of an engine's answer: all that a delivery reads."""
_ERROR_LINES = (b'data: {"error"', b"event: error", b"event: response.failed")
_ERROR_EVENT = re.compile(b"\n(?:%b)" % b"|".join(map(re.escape, _ERROR_LINES)))
"""Inside an event's JSON a line's end is escaped, so this cannot be something that a model wrote. A pattern that may
also match at the beginning takes twelve times as long: 0.2 s for 16 MiB, in which nothing else runs, in no thread."""


class Taping:
    """One answer being taped."""

    is_client_gone = False
    """Whoever leaves leaves the tape; the answer goes on."""

    def __init__(
        self, source: Source, route: Route, room: TapeRoom, *, is_static: bool, most_bytes: Callable[[], int]
    ) -> None:
        """Prepare to take it.

        Args:
            source: the engine's answer.
            route: what was asked.
            room: of all tapes.
            is_static: a foreign engine's.
            most_bytes: what one tape may hold, as configured now.
        """
        self._source = source
        self._is_static = is_static
        self._most_bytes = most_bytes
        self._waiter: asyncio.Future[None] | None = None
        headers = {name: value for name, value in source.headers.items() if name in KEPT_HEADERS}
        self._filter: EventFilter | None = None
        if headers.get("content-type", "").startswith(EVENT_STREAM):
            self._filter = EventFilter(route, is_foreign=is_static, hides_usage=False)
        self.tape = Tape(source.status, headers, room)
        self.tape.on_pace = self._pace
        self._tail = b""
        self.sent_bytes = 0

    @property
    def broken(self) -> UpstreamFailure | None:
        """Why the answer broke off under way; None where it did not."""
        return self.tape.broken

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.tape.is_complete or self.tape.broken is not None

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        if self._filter is not None:
            return self._filter.outcome
        told = self.tape.headers.get(HEADER_OUTCOME)
        if told is not None:
            return decode_outcome(told)
        if not self._is_static:
            return None
        return usage_in(self.tape.body if self.tape.is_whole else self._tail)

    def kept(self, fingerprint: bytes) -> KeptAnswer | None:
        """The answer to keep; None: it is no success, or not all of it is here."""
        tape = self.tape
        if not (tape.is_complete and tape.is_whole and ending_of(tape.status) is Ending.OK):
            return None
        body = tape.body
        if self._filter is not None and (body.startswith(_ERROR_LINES) or _ERROR_EVENT.search(body) is not None):
            return None
        return KeptAnswer(
            fingerprint=fingerprint, status=tape.status, is_static=self._is_static, headers=tape.headers, body=body
        )

    def start(self) -> None:
        """Begin to take the engine's bytes."""
        self._source.read(self)

    async def ended(self) -> None:
        """Wait until nothing more will come."""
        if not self.is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def cancel(self, failure: UpstreamFailure) -> None:
        """End the answer under way with an error; the engine is aborted."""
        if not self.is_over:
            self._source.close()
            self.broke_off(failure)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the endpoint."""
        self.sent_bytes += len(payload)
        stream = self._filter
        if stream is not None:
            (stream.last if is_last else stream.take)(payload)
            if is_last and not stream.is_done:
                # Its HTTP ended well, its content did not: an engine's proxy may have cut it.
                self.tape.put(payload, is_last=False, most_bytes=self._most_bytes())
                self.broke_off(UpstreamFailure(kind=FailureKind.RESET, detail="the stream has no end"))
                return
        elif self._is_static:
            # A tape over its bounds forgets what its readers have.
            self._tail = (self._tail + payload)[-TAIL_BYTES:]
        self.tape.put(payload, is_last=is_last, most_bytes=self._most_bytes())
        if is_last:
            self._wake()

    def broke_off(self, failure: UpstreamFailure) -> None:
        """The endpoint failed under way."""
        self.tape.break_off(failure)
        self._wake()

    def _pace(self, must_wait: bool) -> None:  # noqa: FBT001 - a callback's one argument
        (self._source.pause if must_wait else self._source.resume)()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
