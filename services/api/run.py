"""One answer being made for whoever asks for it under one key: the clients that wait, and those that read.

What must not live here: making it, finding it (repeats.py), bytes (tape.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.idempotency import Claim
from services.api.refusals import Refusal
from services.api.tape import Tape, TapeReader
from services.gateway.outcome import Served
from services.gateway.upstream import FailureKind, UpstreamFailure


@dataclass(frozen=True, slots=True)
class Shared:
    """A client's own way through a tape."""

    answer: TapeReader
    is_static: bool


class Run:
    """What clients share while an answer is made, and until it is kept."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.task: asyncio.Task[None] | None = None
        self.served: Served | None = None
        """Who answers; None where the answer was kept."""
        self.told: Sequence[tuple[str, str]] = ()
        """What the first client's head says of it."""
        self._refusal: Refusal | None = None
        self._tape: Tape | None = None
        self._is_static = False
        self._is_made = False
        self._is_given_up = False
        self._waiting: list[asyncio.Future[Shared | Refusal]] = []
        self._clients = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def can_join(self) -> bool:
        """Whether a client that comes now gets the answer from its beginning."""
        return not self._is_given_up and (self._tape is None or self._tape.is_whole)

    def enter(self) -> None:
        """A client is here for the answer; `leave` must follow."""
        self._clients += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self, unread_s: float) -> None:
        """A client has left, with or without the answer; with the last one, the answer is worth so much more time."""
        self._clients -= 1
        if not self._clients and not self._is_made:
            self._timer = asyncio.get_running_loop().call_later(unread_s, self._give_up)

    async def begun(self) -> Shared | Refusal:
        """Wait for the answer's beginning, or for why there is none; only where `can_join`."""
        if self._refusal is not None:
            return self._refusal
        if self._tape is not None:
            return Shared(self._tape.reader(), self._is_static)
        place: asyncio.Future[Shared | Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and isinstance(shared := place.result(), Shared):
                shared.answer.close()
            raise

    def begin(self, tape: Tape, *, is_static: bool) -> None:
        """The answer begins."""
        self._tape, self._is_static = tape, is_static
        tape.on_unwanted = self._give_up
        for place in self._taken():
            place.set_result(Shared(tape.reader(), is_static))

    def refuse(self, refusal: Refusal) -> None:
        """There will be no answer."""
        self._refusal = refusal
        for place in self._taken():
            place.set_result(refusal)

    def made(self) -> None:
        """The answer has ended: nothing is saved by stopping now."""
        self._is_made = True
        if self._timer is not None:
            self._timer.cancel()

    def close(self, refusal: Refusal) -> None:
        """Nobody finds it here any more; whoever waits still is told why."""
        self.made()
        if self._tape is None:
            self.refuse(refusal)
        else:
            self._tape.break_off(UpstreamFailure(kind=FailureKind.RESET, detail=refusal.message))
            self._tape.close()

    def _give_up(self) -> None:
        # Until the task has heard of it, nobody may join what ends.
        self._is_given_up = True
        if self.task is not None:
            self.task.cancel()

    def _taken(self) -> list[asyncio.Future[Shared | Refusal]]:
        waiting, self._waiting = self._waiting, []
        return [place for place in waiting if not place.done()]
