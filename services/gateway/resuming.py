"""An answer that outlives its replica: another one goes on, and who reads it notices a pause at most.

Where it is cut, nobody gives it meanwhile. Where it moves, its replica still does: what comes is held, dropped once
another one goes on, and passed after all where none does. What must not live here: finding the other one
(succession.py), what was delivered (journal.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from services.gateway.journal import HELD_MAX_BYTES, Journal
from services.gateway.upstream import AnswerReader, FailureKind, UpstreamAnswer, UpstreamFailure

logger = logging.getLogger(__name__)

Find = Callable[[], Awaitable[UpstreamAnswer | None]]
"""Finds who goes on; None: nobody does."""


class Successors(Protocol):
    """What is asked for whoever goes on; None: nobody does."""

    @property
    def asked_in_vain(self) -> int:
        """How many searches `elsewhere` asked somebody who did not go on, since one that did."""
        ...

    async def go_on(self, failure: UpstreamFailure) -> UpstreamAnswer | None:
        """With a stream that was cut."""
        ...

    async def elsewhere(self) -> UpstreamAnswer | None:
        """With a stream that its replica would still give."""
        ...

    async def larger(self) -> UpstreamAnswer | None:
        """In a larger pool, since the context of this one is full."""
        ...


class _Hold:
    """What comes of a stream while it moves."""

    __slots__ = ("failure", "held_bytes", "is_last", "pieces")

    def __init__(self, *, is_last: bool) -> None:
        self.pieces: list[bytes] = []
        self.held_bytes = 0
        self.is_last = is_last
        self.failure: UpstreamFailure | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether its replica still gives it: a connection that is through may be somebody else's by now."""
        return not self.is_last and self.failure is None

    def take(self, payload: bytes, *, is_last: bool) -> None:
        self.pieces.append(payload)
        self.held_bytes += len(payload)
        self.is_last = is_last


class ResumableAnswer:
    """Stands for an `UpstreamAnswer` that is a stream of events of a replica."""

    __slots__ = ("_answer", "_hold", "_is_paused", "_journal", "_reader", "_successors", "_task", "headers", "status")

    def __init__(self, answer: UpstreamAnswer, journal: Journal, successors: Successors) -> None:
        """Take over an answer whose first bytes are here.

        Args:
            answer: the first replica's.
            journal: of this stream, empty.
            successors: asked when it is cut, or moves.
        """
        self._answer = answer
        self._journal = journal
        self._successors: Successors | None = successors
        self._reader: AnswerReader | None = None
        self._task: asyncio.Task[None] | None = None
        """Looks for who goes on."""
        self._hold: _Hold | None = None
        """Of a stream that moves."""
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
        if self._is_given:
            self._answer.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._is_paused = False
        if self._is_given:
            self._answer.resume()

    def close(self) -> None:
        """As `UpstreamAnswer.close`; nobody goes on."""
        self._over()
        if self._task is not None:
            self._task.cancel()
        self._answer.close()

    @property
    def asked_in_vain(self) -> int:
        """How many of its searches by `leave` asked somebody in vain; one that found no place asked nobody."""
        return 0 if self._successors is None else self._successors.asked_in_vain

    def leave(self) -> asyncio.Task[None] | None:
        """Look for another replica that goes on at once, and stay where there is none.

        Returns:
            The search; None where this stream cannot move, or is looking already.
        """
        successors, journal = self._successors, self._journal
        if self._reader is None or successors is None or self._task is not None:
            return None
        if not journal.is_open or journal.is_complete:
            return None
        return self._move(successors.elsewhere, is_last=False)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes from the replica."""
        reader, journal, hold = self._reader, self._journal, self._hold
        if reader is None:
            return
        if hold is not None:
            hold.take(payload, is_last=is_last)
            # Nothing is gained by moving a stream that is at its end, unless its end is that its context is full.
            if hold.held_bytes > HELD_MAX_BYTES or (is_last and not journal.is_full):
                self._stay(hold)
            return
        passed = journal.take(payload)
        if journal.is_full:
            self._pass(reader, passed)
            if self._successors is not None:
                self._move(self._successors.larger, is_last=is_last)
        elif journal.has_failed:
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
        if self._hold is None:
            self._cut(failure)
        elif self._hold.is_under_way:
            self._hold.failure = failure

    @property
    def _is_given(self) -> bool:
        """Whether the replica's connection is this stream's: after a cut it may be somebody else's."""
        return self._task is None if self._hold is None else self._hold.is_under_way

    def _pass(self, reader: AnswerReader, passed: bytes) -> None:
        if passed:
            reader.data(passed, is_last=False)

    def _cut(self, failure: UpstreamFailure) -> None:
        successors = self._successors
        if self._reader is None or self._task is not None:
            # A connection may break behind an error that its engine told.
            return
        if successors is None or not self._journal.is_open:
            self._end(failure)
            return
        self._look(lambda: successors.go_on(failure), lambda: self._end(failure))

    def _move(self, find: Find, *, is_last: bool) -> asyncio.Task[None]:
        hold = self._hold = _Hold(is_last=is_last)
        return self._look(find, lambda: self._stay(hold))

    def _look(self, find: Find, otherwise: Callable[[], None]) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._find(find, otherwise))
        return self._task

    async def _find(self, find: Find, otherwise: Callable[[], None]) -> None:
        answer = None
        try:
            answer = await find()
        except Exception:
            # Its client gets what it would have had without this.
            logger.exception("nobody could be found who goes on with a stream")
        self._task = None
        if self._reader is None:
            if answer is not None:
                answer.close()
        elif answer is None:
            otherwise()
        else:
            self._hold = None
            self._answer.close()
            self._journal.resumed()
            self._answer = answer
            if self._is_paused:
                answer.pause()
            answer.read(self)

    def _stay(self, hold: _Hold) -> None:
        """Go on where it is, with what was held."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._hold = None
        if hold.failure is not None and self._journal.is_full:
            # Its end is not whole: the stream goes on from where its context was full, in a context of the same size.
            self._cut(hold.failure)
            return
        self._journal.stays()
        if hold.pieces or hold.is_last:
            self.data(b"".join(hold.pieces), is_last=hold.is_last)
        if hold.failure is not None:
            self.broke_off(hold.failure)

    def _end(self, failure: UpstreamFailure) -> None:
        reader = self._reader
        self._over()
        if reader is not None:
            reader.broke_off(failure)

    def _over(self) -> None:
        """Let go of everybody: a request's body must not wait for the cycle collector."""
        self._reader = self._successors = self._hold = None
