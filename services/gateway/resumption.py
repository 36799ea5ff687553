"""Whether a stream is gone on with when it is cut, and how often.

What must not live here: finding (succession.py), bytes (resuming.py, journal.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from cluster.core import wire
from cluster.core.prompt import Conversation, Texts, TokenIds
from cluster.core.request import InferenceRequest, Route, outgrown
from cluster.core.routing import Choice, Pool
from services.gateway.ask import Ask
from services.gateway.catalog import Catalog
from services.gateway.journal import Journal
from services.gateway.metric_labels import Moved, Resumed
from services.gateway.outcome import Served
from services.gateway.places import Case
from services.gateway.upstream import UpstreamAnswer, UpstreamFailure

DRAWS_BITS = 128
"""As many as a request's own id has: no two requests get the same."""
EVENT_STREAM = "text/event-stream"
OK_STATUS = 200
BEAM_SEARCH = "use_beam_search"
"""vLLM's own field: beams are chosen at the end, so their tokens are no one's until then."""


class Succeeds(Protocol):
    """What is needed of succession."""

    async def resumed(
        self, case: Case, served: Served, failure: UpstreamFailure, *, is_transports: bool
    ) -> UpstreamAnswer | None:
        """Let another replica go on."""
        ...

    async def moved(self, case: Case, served: Served, why: Moved, *, waits: bool) -> UpstreamAnswer | None:
        """The same where nothing is wrong with the one that gives the stream."""
        ...


class Resumption:
    """One stream's resumes."""

    def __init__(self, case: Case, served: Served, succession: Succeeds) -> None:
        limits = case.catalog.config.gateway.limits
        self._case = case
        self._served = served
        self._succession = succession
        self._left = limits.resumes
        self._noted_bytes = -1
        self.asked_in_vain = 0
        self.journal = Journal(case.ask.request.route, limits.resume_tokens)

    async def go_on(self, failure: UpstreamFailure) -> UpstreamAnswer | None:
        """Whoever goes on; None: nobody, or it was tried often enough."""
        case, journal = self._case, self.journal
        pools = self._pools()
        # A request under which two engines broke off without a token between them may be what breaks them.
        if self._left == 0 or not pools or journal.noted_bytes == self._noted_bytes:
            return None
        self._left -= 1
        self._noted_bytes = journal.noted_bytes
        case.pools, case.delivered = pools, journal.delivered()
        return await self._succession.resumed(case, self._served, failure, is_transports=not journal.has_failed)

    async def elsewhere(self) -> UpstreamAnswer | None:
        """Whoever has a place now, while the stream's replica still gives it; None: nobody has."""
        case, pools = self._case, self._pools()
        if not pools:
            return None
        case.pools, case.delivered = pools, self.journal.delivered()
        answer = None
        try:
            # Its client waits meanwhile, though its replica would go on: as long as a silence may be, and no longer.
            async with asyncio.timeout(case.catalog.config.gateway.limits.idle_s):
                answer = await self._succession.moved(case, self._served, Moved.DRAIN, waits=False)
        except TimeoutError:
            return None
        finally:
            # Also where the search is given up because too much is held.
            self.asked_in_vain = 0 if answer is not None else self.asked_in_vain + (case.attempts.sent > 0)
        return answer

    async def larger(self) -> UpstreamAnswer | None:
        """A larger pool, since the context of the stream's own is full; None: there is none, or none takes it."""
        case, full = self._case, self._served.choice.fit.pool
        pools = tuple(pool for pool in self._pools() if pool.context_tokens > full.context_tokens)
        if not pools:
            return None
        before = case.pools, case.need
        case.pools, case.need = pools, outgrown(case.need, full.context_tokens)
        case.delivered = self.journal.delivered()
        answer = None
        try:
            answer = await self._succession.moved(case, self._served, Moved.FULL, waits=True)
        finally:
            if answer is None:
                case.pools, case.need = before
        return answer

    def _pools(self) -> tuple[Pool, ...]:
        """Where it may go on."""
        without_resume = self._case.catalog.without_resume
        return tuple(pool for pool in self._case.pools if pool.verifies and pool.name not in without_resume)


def may_resume(ask: Ask, catalog: Catalog) -> bool:
    """Whether the request is of a kind that can be gone on with, and nobody wants it to end instead."""
    request = ask.request
    return (
        request.stream
        and request.route.generates
        and catalog.config.gateway.limits.resumes > 0
        and ask.headers.get(wire.HEADER_RESUME, "").strip().lower() != wire.RESUME_OFF
        and BEAM_SEARCH not in request.given
        and _is_one_prompt(request.prompt)
    )


def draws_ids(request: InferenceRequest) -> bool:
    """Whether events name, by ids that were drawn, what events before them have named.

    They cannot follow from the request's id: a client may give several requests the same one, and pairs a call of a
    tool with its result by an id.
    """
    return request.stream and request.route is Route.RESPONSES


def may_grow(ask: Ask, catalog: Catalog, pools: Sequence[Pool]) -> bool:
    """Whether a stream may outgrow the pool it begins in, as far as its model allows it: it can go on in any other."""
    request = ask.request
    promises_few = request.route is Route.COMPLETIONS and request.requested_output_tokens is None
    return (
        not promises_few
        and may_resume(ask, catalog)
        and all(pool.verifies and pool.name not in catalog.without_resume for pool in pools)
    )


def is_resumable(case: Case, choice: Choice, answer: UpstreamAnswer) -> bool:
    """Whether this answer is: a stream of a replica of ours, whose pool does not switch it off."""
    return (
        may_resume(case.ask, case.catalog)
        and answer.status == OK_STATUS
        and answer.headers.get("content-type", "").startswith(EVENT_STREAM)
        and case.catalog.static(choice.endpoint.replica_id) is None
        and choice.endpoint.pool not in case.catalog.without_resume
    )


def how_resumed(answer: UpstreamAnswer) -> Resumed:
    """As the replica tells it; one that does not began from the start, or has an error."""
    told = answer.headers.get(wire.HEADER_RESUMED)
    if answer.status != OK_STATUS or told not in {Resumed.APPEND, Resumed.REPLAY}:
        return Resumed.REFUSED
    return Resumed(told)


def _is_one_prompt(prompt: Conversation | Texts | TokenIds | None) -> bool:
    """Of several prompts the order of tokens between them is chance."""
    match prompt:
        case Texts():
            return len(prompt.texts) == 1
        case TokenIds():
            return prompt.prompts == 1
        case _:
            return True
