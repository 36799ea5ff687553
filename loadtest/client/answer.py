"""What came back for one request, whichever API it went over, and the kinds of failure.

What must not live here: bytes, sockets.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from itertools import pairwise

from loadtest.plan import Session
from loadtest.record import Record

MICROSECONDS = 6
"""Decimals of times in records: finer than any clock of a network, and half as long in a file."""


class ErrorKind(StrEnum):
    """Why a request has no good answer: `Record.error`."""

    NONE = ""
    REFUSED = "refused"
    """An answer of 400 to 499: overload, limits, mistakes."""
    UNAVAILABLE = "unavailable"
    """500 and above, 504 apart."""
    BROKEN = "broken"
    """It began and did not end as it should."""
    TIMEOUT = "timeout"
    """504, or the client's own limit: it took too long."""
    CONNECTION = "connection"
    """None could be had, or it went before an answer began."""
    CLIENT = "client"
    """The client itself could not, or did not want to any more: it says nothing of the server."""


def kind_of(status: int) -> ErrorKind:
    """The kind of an answer by its HTTP status."""
    if status < HTTPStatus.BAD_REQUEST:
        return ErrorKind.NONE
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return ErrorKind.TIMEOUT
    return ErrorKind.UNAVAILABLE if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ErrorKind.REFUSED


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer while it arrives, and after. Times are `time.monotonic()`."""

    sent_s: float = 0.0
    """When the client turned to it; connecting, where that is needed, comes after."""
    ended_s: float = 0.0
    status: int = 0
    error: ErrorKind = ErrorKind.NONE
    code: str = ""
    event_times: array[float] = field(default_factory=lambda: array("d"))
    """When each event with text was read."""
    is_stream: bool = False
    said: Callable[[], str] = str
    """Gives its text, where that was asked for: read only when somebody needs it."""
    token_ids: Callable[[], Sequence[int]] = tuple
    """Gives the ids of its tokens, where those were asked for too; empty where the server tells none."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    pool: str = ""
    replica: str = ""

    def fail(self, kind: ErrorKind, code: str = "") -> None:
        """It is no good answer; the first reason counts."""
        if self.error is ErrorKind.NONE:
            self.error, self.code = kind, code or self.code


def record_of(answer: Answer, session: Session, *, number: int, turn: int, due_s: float, begin_s: float) -> Record:
    """What is kept of an answer.

    Args:
        answer: complete, or failed.
        session: whose request it was.
        number: the session's.
        turn: the turn's, from 0.
        due_s: on the run's clock.
        begin_s: the run's begin on `time.monotonic()`.
    """
    times = [round(at_s - begin_s, MICROSECONDS) for at_s in answer.event_times]
    gaps = [round(after - before, MICROSECONDS) for before, after in pairwise(times)]
    return Record(
        label=session.label,
        tenant=session.tenant,
        session=number,
        turn=turn,
        due_s=round(due_s, MICROSECONDS),
        sent_s=round(answer.sent_s - begin_s, MICROSECONDS),
        first_token_s=times[0] if times else None,
        ended_s=round(answer.ended_s - begin_s, MICROSECONDS),
        gaps_s=array("d", gaps if answer.is_stream else ()),
        status=answer.status,
        error=str(answer.error),
        code=answer.code,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        output_tokens=answer.output_tokens,
        pool=answer.pool,
        replica=answer.replica,
        planned_tokens=session.turns[turn].prompt_tokens,
    )
