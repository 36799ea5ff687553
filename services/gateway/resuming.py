"""An answer that outlives its replica: where it is cut, another one goes on, and who reads it notices a pause at most.

What must not live here: finding the other one (dispatch.py), what was delivered (journal.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from services.gateway.journal import Journal
from services.gateway.upstream import AnswerReader, FailureKind, UpstreamAnswer, UpstreamFailure

logger = logging.getLogger(__name__)

GoOn = Callable[[UpstreamFailure], Awaitable[UpstreamAnswer | None]]
"""Finds who goes on; None: nobody does."""


class ResumableAnswer:
    """Stands for an `UpstreamAnswer` that is a stream of events of a replica."""

    __slots__ = ("_answer", "_go_on", "_is_paused", "_journal", "_reader", "_task", "headers", "status")

    def __init__(self, answer: UpstreamAnswer, journal: Journal, go_on: GoOn) -> None:
        """Take over an answer whose first bytes are here.

        Args:
            answer: the first replica's.
            journal: of this stream, empty.
            go_on: asked when it is cut.
        """
        self._answer = answer
        self._journal = journal
        self._go_on: GoOn | None = go_on
        self._reader: AnswerReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False
        self.status: int = answer.status
        self.headers: Mapping[str, str] = answer.headers

    def read(self, reader: AnswerReader) -> None:
        """As `UpstreamAnswer.read`."""
        self._reader = reader
        self._answer.read(self)

    def pause(self) -> None:
        """Let the replica wait, and whoever goes on."""
        self._is_paused = True
        if self._task is None:
            # Else the connection of the answer that was cut may be somebody else's by now.
            self._answer.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._is_paused = False
        if self._task is None:
            self._answer.resume()

    def close(self) -> None:
        """As `UpstreamAnswer.close`; nobody goes on."""
        self._over()
        if self._task is not None:
            self._task.cancel()
        self._answer.close()

    def cut(self, failure: UpstreamFailure) -> None:
        """Break it off, though its connection says nothing: its replica is known to be gone."""
        if self._reader is not None and self._task is None:
            self._answer.close()
            self._cut(failure)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the replica."""
        reader, journal = self._reader, self._journal
        if reader is None:
            return
        passed = journal.take(payload)
        if journal.has_failed:
            self._answer.close()
            self._pass(reader, passed)
            self._cut(UpstreamFailure(kind=FailureKind.RESET, detail="its engine told an error"))
        elif is_last and not journal.is_complete and journal.is_open:
            self._pass(reader, passed)
            self._cut(UpstreamFailure(kind=FailureKind.RESET, detail="the stream has no end"))
        elif is_last:
            self._over()
            reader.data(passed + journal.rest(), is_last=True)
        else:
            self._pass(reader, passed)

    def broke_off(self, failure: UpstreamFailure) -> None:
        """The replica is gone."""
        self._cut(failure)

    def _pass(self, reader: AnswerReader, passed: bytes) -> None:
        if passed:
            reader.data(passed, is_last=False)

    def _cut(self, failure: UpstreamFailure) -> None:
        if self._reader is None or self._task is not None:
            # A connection may break behind an error that its engine told.
            return
        if self._go_on is None or not self._journal.is_open:
            self._end(failure)
            return
        self._task = asyncio.get_running_loop().create_task(self._find(self._go_on, failure))

    async def _find(self, go_on: GoOn, failure: UpstreamFailure) -> None:
        answer = None
        try:
            answer = await go_on(failure)
        except Exception:
            # Its client gets the error that it would have had without this.
            logger.exception("a cut stream could not be gone on with")
        self._task = None
        if self._reader is None:
            if answer is not None:
                answer.close()
        elif answer is None:
            self._end(failure)
        else:
            self._journal.resumed()
            self._answer = answer
            if self._is_paused:
                answer.pause()
            answer.read(self)

    def _end(self, failure: UpstreamFailure) -> None:
        reader = self._reader
        self._over()
        if reader is not None:
            reader.broke_off(failure)

    def _over(self) -> None:
        """Let go of everybody: a request's body must not wait for the cycle collector."""
        self._reader = self._go_on = None
