"""Asks endpoints for an answer, one after another, until one gives its first bytes or nobody is left.

What must not live here: what a request needs (dispatch.py), who goes on with a stream (succession.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.config import LimitsSection
from cluster.core import wire
from cluster.core.routing import Choice
from cluster.core.routing.room import Tier
from services.gateway.attempts import OVERLOAD_STATUSES, RETRY_AFTER_S, is_passed_over
from services.gateway.call import call_of
from services.gateway.directory import Directory
from services.gateway.lengths import told_length
from services.gateway.metrics import Metrics
from services.gateway.outcome import Busy, Outcome
from services.gateway.places import Case, Claim, Line, Places
from services.gateway.resumption import may_resume
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import Upstream, UpstreamAnswer, UpstreamFailure

LEAVING_REFUSALS = frozenset({wire.REFUSAL_DRAINING, wire.REFUSAL_STALLED})


class Answered(NamedTuple):
    """An endpoint has begun to answer."""

    claim: Claim
    answer: UpstreamAnswer
    sent_s: float
    """When it was asked."""


class Asking:
    """Whoever is asked for answers."""

    def __init__(
        self,
        *,
        directory: Directory,
        counter: PromptCounter,
        upstream: Upstream,
        metrics: Metrics,
        places: Places,
        clock: Callable[[], float],
        credential: str | None,
    ) -> None:
        self._directory = directory
        self._counter = counter
        self._upstream = upstream
        self._metrics = metrics
        self._places = places
        self._clock = clock
        self._credential = credential

    async def answer(self, case: Case, *, waits: bool = True) -> Answered | Outcome:
        """The first bytes of an answer, or why there are none.

        Args:
            case: of the request.
            waits: whether it may wait for a place, and asks endpoints that failed a moment ago.
        """
        limits = case.catalog.config.gateway.limits
        attempts, recording = case.attempts, case.ask.recording
        while True:
            found = await self._place(case, limits) if waits else self._free_place(case, limits)
            if not isinstance(found, Claim):
                return found
            choice = found.choice
            attempts.sent += 1
            sent_s = self._clock()
            if recording is not None:
                recording.attempted(sent_s, choice)
            answer = await self._send(case, found, limits)
            if isinstance(answer, UpstreamFailure):
                self._passed_over(case, choice, answer.kind.value)
                self._directory.failed(choice.endpoint.replica_id)
                attempts.failed(choice, answer)
            elif answer.headers.get(wire.HEADER_REFUSAL) == wire.REFUSAL_CONTEXT:
                self._passed_over(case, choice, "refused")
                answer.close()
                case.need = told_length(case, choice, answer, self._counter)
            elif _is_full(choice, answer):
                self._passed_over(case, choice, "full")
                answer.close()
                attempts.turned_away(answer)
            elif answer.status in OVERLOAD_STATUSES:
                self._passed_over(case, choice, "overloaded")
                answer.close()
                # A bare 503 or 429 only means busy; a drain or a stall means that no other should go there either.
                if answer.headers.get(wire.HEADER_REFUSAL) in LEAVING_REFUSALS:
                    self._directory.suspect(choice.endpoint.replica_id)
                attempts.overloaded(choice, answer)
            else:
                self._metrics.attempt(choice.endpoint.pool, "answered")
                return Answered(found, answer, sent_s)

    async def _place(self, case: Case, limits: LimitsSection) -> Claim | Outcome:
        """A place for the next attempt, after a wait where need be."""
        recording = case.ask.recording
        found = self._places.claim(case, limits)
        if case.attempts.sent == 0 and case.delivered is None:
            self._places.arrived(case, found)
            if recording is not None:
                recording.decision_s = case.decision_s
        if not isinstance(found, Line):
            return found
        begun_s = self._clock()
        try:
            return await self._places.wait(case, found, limits)
        finally:
            if recording is not None:
                recording.waited(begun_s, self._clock())

    def _free_place(self, case: Case, limits: LimitsSection) -> Claim | Outcome:
        """A place that is there now, with a healthy endpoint."""
        found = self._places.claim(case, limits)
        if isinstance(found, Claim) and found.choice.tier is not Tier.SUSPECT:
            return found
        if not isinstance(found, Line):
            self._places.give_back(found)
        return Busy(retry_after_s=RETRY_AFTER_S, waited_s=case.waited_s, is_late=False)

    def _passed_over(self, case: Case, choice: Choice, why: str) -> None:
        self._metrics.attempt(choice.endpoint.pool, why)
        if case.ask.recording is not None:
            case.ask.recording.failed(self._clock(), why)

    async def _send(self, case: Case, claim: Claim, limits: LimitsSection) -> UpstreamAnswer | UpstreamFailure:
        choice = claim.choice
        endpoint = choice.endpoint
        static = case.catalog.static(endpoint.replica_id)
        left_s = case.ask.deadline.left_s(self._clock())
        call = call_of(
            case.ask,
            case.resolved,
            choice,
            static,
            credential=self._credential,
            left_s=left_s,
            delivered=case.delivered,
            draws=case.draws,
            grows_tokens=case.grows_tokens,
            tells_ids=may_resume(case.ask, case.catalog) and endpoint.pool not in case.catalog.without_resume,
        )
        is_kept = False
        try:
            answer = await self._upstream.send(call, limits)
            if not isinstance(answer, UpstreamFailure):
                self._directory.answered(endpoint.replica_id)
                if _is_full(choice, answer):
                    # Before its place is given back: it is nobody's.
                    self._directory.full(endpoint.replica_id)
                is_kept = not is_passed_over(answer)
            return answer
        finally:
            if is_kept:
                self._places.answered(claim)
            else:
                self._places.give_back(claim)


def _is_full(choice: Choice, answer: UpstreamAnswer) -> bool:
    """Whether a replica of ours had no place for it; one that does not tell its places counts as busy."""
    return answer.headers.get(wire.HEADER_REFUSAL) == wire.REFUSAL_OVERLOAD and choice.endpoint.capacity > 0
