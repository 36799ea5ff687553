"""Finds who goes on with a stream: one that was cut, or one that is moved while its replica still gives it.

What must not live here: whether, and how often (resumption.py); bytes (resuming.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

from cluster.core.lease import PoolName
from cluster.core.routing import fitting_pools
from services.gateway.asking import Answered, Asking
from services.gateway.attempts import Attempts
from services.gateway.directory import Directory
from services.gateway.metric_labels import Moved, Resumed
from services.gateway.metrics import Metrics
from services.gateway.open_answers import OpenAnswers
from services.gateway.outcome import Served
from services.gateway.places import Case, Places
from services.gateway.resumption import how_resumed
from services.gateway.upstream import UpstreamAnswer, UpstreamFailure


class Succession:
    """Puts another replica in the place of one that gives a stream."""

    def __init__(
        self,
        *,
        asking: Asking,
        directory: Directory,
        places: Places,
        metrics: Metrics,
        open_answers: OpenAnswers,
        clock: Callable[[], float],
    ) -> None:
        self._asking = asking
        self._directory = directory
        self._places = places
        self._metrics = metrics
        self._open = open_answers
        self._clock = clock

    async def resumed(
        self, case: Case, served: Served, failure: UpstreamFailure, *, is_transports: bool
    ) -> UpstreamAnswer | None:
        """Let another replica go on with a stream that was cut; None where none does.

        `served` is told who goes on; `is_transports`: the connection broke, not the engine's work on this one request.
        """
        cut, cut_s = served.choice, self._clock()
        if case.ask.deadline.left_s(cut_s) <= 0:
            return None
        self._directory.suspect(cut.endpoint.replica_id)
        case.cut |= {cut.endpoint.replica_id}
        case.attempts = Attempts()
        case.attempts.tried |= case.cut
        if case.ask.recording is not None:
            case.ask.recording.failed(cut_s, failure.kind.value)
        found = None
        if await self._has_another_by(case, cut_s + case.catalog.config.gateway.limits.queue_s):
            found = await self._successor(case, served, lambda how: self._metrics.resumed(cut.endpoint.pool, how))
        if found is None:
            self._metrics.resumed(cut.endpoint.pool, Resumed.NOBODY)
            return None
        # Where nobody goes on, the books count all of this.
        self._metrics.broken(cut.endpoint.pool, failure.kind.value)
        place_s, redo_s = found.sent_s - cut_s, self._clock() - found.sent_s
        self._metrics.went_on(cut.endpoint.pool, place_s=place_s, redo_s=redo_s)
        if is_transports:
            self._directory.failed(cut.endpoint.replica_id)
        served.resumes += 1
        return found.answer

    async def moved(self, case: Case, served: Served, why: Moved, *, waits: bool) -> UpstreamAnswer | None:
        """Let another replica go on with a stream that its own still gives; None where none does.

        Neither faults nor further attempts: nothing is counted against anybody. `waits`: for a place, as a new request.
        """
        before = served.choice.endpoint
        if case.ask.deadline.left_s(self._clock()) <= 0:
            return None
        case.attempts = Attempts(case.cut | {before.replica_id})

        def count(how: Resumed) -> None:
            self._metrics.moved(before.pool, why, how)

        found = await self._successor(case, served, count, waits=waits)
        if found is None and waits:
            # Where it does not wait, it will be tried again.
            count(Resumed.NOBODY)
        if found is None:
            return None
        if case.ask.recording is not None:
            case.ask.recording.moved(self._clock())
        return found.answer

    async def _has_another_by(self, case: Case, until_s: float) -> bool:
        """Wait for a replica that it was not cut at: where it was the only one, Serve starts another in its place.

        Not in the waiting room: those of a line there can run wherever one of them can. This one cannot where it was
        cut, and would keep others from places that come free there.
        """
        names = {pool.name for pool, _ in fitting_pools(case.need, case.pools)}
        left_s = min(until_s - self._clock(), case.ask.deadline.left_s(self._clock()))
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                while not self._has_another(case, names):
                    await self._directory.next_reading()
                return True
        return False

    def _has_another(self, case: Case, names: Collection[PoolName]) -> bool:
        members = (member.endpoint for member in self._directory.table.members())
        return any(one.pool in names and one.accepts and one.replica_id not in case.cut for one in members)

    async def _successor(
        self, case: Case, served: Served, count: Callable[[Resumed], None], *, waits: bool = True
    ) -> Answered | None:
        """The answer of whoever goes on, who has the stream's place in all books from now on."""
        before, attempts = served.choice, case.attempts
        while isinstance(found := await self._asking.answer(case, waits=waits), Answered):
            choice, answer = found.claim.choice, found.answer
            how = how_resumed(answer)
            count(how)
            if how is not Resumed.REFUSED:
                self._open.ended(before.endpoint.replica_id, served.answer)
                self._open.opened(choice.endpoint.replica_id, served.answer)
                self._places.freed(before)
                served.choice = choice
                served.attempts += attempts.sent
                return found
            answer.close()
            self._places.freed(choice)
            attempts.tried |= {choice.endpoint.replica_id}
        return None
