"""A place for a request: routing decided, the endpoint's load counted, or a wait in the gateway's own queue.

What lives here: what is known of one request on its way, and everything that claims or frees an endpoint for it. What
must not: sending it, the rules of routing and of the queue (cluster/core).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cluster.config import LimitsSection
from cluster.core import wire
from cluster.core.admission.hold import retry_after_s
from cluster.core.admission.retry_budget import RetryBudget
from cluster.core.admission.ticket import Ticket
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    NO_FETCHES,
    NOTHING_RESIDENT,
    Choice,
    Decision,
    Fetch,
    NoEndpoint,
    Pool,
    Profile,
    Query,
    Saturated,
    TooLong,
    profile_of,
    route,
)
from services.gateway.ask import Ask
from services.gateway.attempts import Attempts
from services.gateway.catalog import Catalog, Resolved
from services.gateway.demand import Demand
from services.gateway.directory import Directory
from services.gateway.outcome import Busy, NotStarted, Outcome, Overloaded
from services.gateway.prefix import Expected, PromptPrefix
from services.gateway.residency import Residency
from services.gateway.scaling import Scaling
from services.gateway.waiting import Admitted, Expired, Expiry, QueueFull, WaitingRoom, places_for


@dataclass(slots=True, kw_only=True)
class Case:
    """One request on its way through: what is known of it so far."""

    ask: Ask
    catalog: Catalog
    resolved: Resolved
    pools: tuple[Pool, ...]
    need: ContextNeed
    prompt: PromptTokens
    """As it was counted or estimated."""
    session: int | None
    profile: Profile
    attempts: Attempts
    prefix: PromptPrefix | None = None
    """What is looked up in replicas' caches; None where that is not worth it."""
    decision_s: float = 0.0
    waited_s: float = 0.0
    grows_tokens: int | None = None
    """The output it may have in all, where it may outgrow a pool that holds its need."""
    draws: str | None = None
    """What replicas derive the ids in its events from; None: no event names anything that another one has named."""
    delivered: bytes | None = None
    """Of a stream that is to go on elsewhere, what its client has."""
    cut: frozenset[ReplicaId] = frozenset()
    """Replicas that the stream was cut at."""


class Claim(NamedTuple):
    """A choice whose endpoint counts the request already."""

    choice: Choice
    decision: Decision
    prefill_tokens: int
    expected: Expected | None
    """The prompt, which will be resident there."""


class Line(NamedTuple):
    """Nobody has a place now, and somebody may have one later."""

    pools: tuple[PoolName, ...]
    """Where, smallest first: those with an endpoint that accepts, and those that get a replica when they have none."""
    is_hold: bool
    """No endpoint of them accepts: it waits for a replica's start."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What ends a wait."""

    what: Claim | Outcome


class Places:
    """Claims endpoints for requests, and frees them."""

    def __init__(
        self,
        *,
        directory: Directory,
        residency: Residency,
        room: WaitingRoom,
        demand: Demand,
        scaling: Scaling,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._residency = residency
        self._room = room
        self._demand = demand
        self._scaling = scaling
        self._rng = rng
        self._clock = clock
        self._retries = RetryBudget()
        self._profile: tuple[Catalog | None, Profile] = (None, profile_of("balanced"))

    def requested(self, now_s: float) -> None:
        """A request came: further attempts are allowed in proportion."""
        self._retries.requested(now_s)

    def arrived(self, case: Case, found: Claim | Line | Outcome) -> None:
        """Count a request for the pool it belongs to, once, whatever becomes of it."""
        if isinstance(found, Claim):
            todo = found.prefill_tokens
            cached_tokens = max(case.need.expected_prompt_tokens - todo, 0)
            home = next(iter(found.choice.case.fits))
            self._demand.arrived(home, prefill_tokens=todo, cached_tokens=cached_tokens)
        elif isinstance(found, Line):
            self._demand.arrived(found.pools[0], prefill_tokens=case.need.expected_prompt_tokens)

    def ended(self, choice: Choice, output_tokens: int) -> None:
        """A request that was counted has ended, with so many tokens generated."""
        self._demand.ended(next(iter(choice.case.fits)), output_tokens)

    def claim(self, case: Case, limits: LimitsSection) -> Claim | Line | Outcome:
        """Decide, and count the request at the endpoint chosen; or why there is none."""
        attempts = case.attempts
        decision = self.route(case)
        if isinstance(decision, TooLong):
            return decision
        is_over = attempts.are_over(limits)
        line = None if isinstance(decision, Decision) else _line(decision, case.catalog.from_zero)
        if line is not None and not is_over and not isinstance(attempts.last, Overloaded):
            return line
        if not isinstance(decision, Decision):
            return attempts.last or (NoEndpoint(pools=decision.pools) if isinstance(decision, Saturated) else decision)
        choice = None if is_over else attempts.next(decision)
        if choice is not None and attempts.is_retry and not self._retries.take(self._clock(), ratio=limits.retry_ratio):
            choice = None
        if choice is None:
            return attempts.last or _refused_by_all(case)
        prefill_tokens = choice.prefill_tokens
        self._directory.started(choice.endpoint.replica_id, prefill_tokens)
        expected = None
        if case.prefix is not None:
            tokens = case.need.expected_prompt_tokens
            expected = self._residency.sent(case.prefix, choice.endpoint.replica_id, tokens)
        return Claim(choice, decision, prefill_tokens, expected)

    def route(self, case: Case, *, explains: bool = False) -> Decision | TooLong | NoEndpoint | Saturated:
        """Decide, and claim nothing; `explains` names every endpoint that was not looked at as well."""
        began_s = time.perf_counter()
        resident, fetches = self._cached(case)
        query = Query(
            need=case.need,
            session=case.session,
            adapter=case.resolved.adapter,
            resident=resident,
            fetches=fetches,
            tried=case.attempts.tried,
            explains=explains or case.ask.headers.get(wire.HEADER_EXPLAIN) == "1",
        )
        decision = route(query, case.pools, self._directory.table, case.profile, self._rng)
        case.decision_s += time.perf_counter() - began_s
        return decision

    def _cached(self, case: Case) -> tuple[Mapping[ReplicaId, int], Mapping[ReplicaId, Fetch]]:
        if case.prefix is None:
            return NOTHING_RESIDENT, NO_FETCHES
        model_id = case.resolved.model.section.id
        tokens = case.need.prompt_tokens if case.need.count is CountKind.EXACT else None
        resident = self._residency.resident(case.prefix, model_id, tokens)
        return resident, self._residency.fetches(case.prefix, model_id, resident, tokens)

    async def wait(self, case: Case, line: Line, limits: LimitsSection) -> Claim | Outcome:
        """Wait in the gateway's own queue for a place."""
        ask = case.ask
        tenant = ask.identity.tenant
        ticket = Ticket(
            tenant=tenant.name,
            pools=line.pools,
            cost_tokens=case.need.total_tokens,
            prefill_tokens=case.need.expected_prompt_tokens,
            arrived_s=ask.arrived_s,
            weight=tenant.weight,
            priority=ask.priority,
            deadline=ask.deadline,
            is_back=_is_back(case, limits),
        )

        def attempt() -> _Found | None:
            found = self.claim(case, limits)
            return None if isinstance(found, Line) else _Found(found)

        def give_back(found: _Found) -> None:
            self.give_back(found.what)

        admitted: Admitted[_Found] | QueueFull | Expired = await self._room.wait(
            ticket,
            attempt=attempt,
            give_back=give_back,
            hold=self._scaling.hold(line.pools[0], limits) if line.is_hold else None,
            waited_s=0.0 if line.is_hold else case.attempts.waited_s,
        )
        if isinstance(admitted, Admitted):
            case.waited_s += admitted.waited_s
            case.attempts.waited(0.0 if line.is_hold else admitted.waited_s)
            return admitted.grant.what
        if case.attempts.last is not None:
            return case.attempts.last
        if line.is_hold and isinstance(admitted, Expired):
            pool = line.pools[0]
            after_s = retry_after_s(self._scaling.starts_in_s(pool))
            return NotStarted(pool=pool, retry_after_s=after_s, waited_s=admitted.waited_s)
        is_late = isinstance(admitted, Expired) and admitted.cause is not Expiry.QUEUE_TIME
        waited_s = admitted.waited_s if isinstance(admitted, Expired) else 0.0
        return Busy(retry_after_s=admitted.retry_after_s, waited_s=waited_s, is_late=is_late)

    def give_back(self, claim: Claim | Outcome) -> None:
        """A claim came to nothing: its endpoint has a place for somebody else."""
        if isinstance(claim, Claim):
            endpoint = claim.choice.endpoint
            if claim.expected is not None:
                claim.expected.failed()
            self._directory.table.finished(endpoint.replica_id, claim.prefill_tokens)
            self._room.pump(endpoint.pool, 1)

    def answered(self, claim: Claim) -> None:
        """The first bytes of an answer are here: its prompt is computed."""
        self._directory.table.first_token(claim.choice.endpoint.replica_id, claim.prefill_tokens)
        if claim.expected is not None:
            claim.expected.settled(self._clock())

    def profile_of(self, catalog: Catalog) -> Profile:
        """The configured policy's profile; the same one until the next reload, since round-robin keeps its turns."""
        if self._profile[0] is not catalog:
            routing = catalog.config.gateway.routing
            self._profile = (catalog, profile_of(routing.policy, reserve_ratio=routing.reserve_ratio))
        return self._profile[1]

    def freed(self, choice: Choice) -> None:
        """An answer has ended: its endpoint has a place for somebody else."""
        self._directory.table.finished(choice.endpoint.replica_id)
        self._room.pump(choice.endpoint.pool, 1)


def _is_back(case: Case, limits: LimitsSection) -> bool:
    """Whether it had its turn before: a stream that was cut, or a request that was turned away and may wait at all."""
    return bool(case.cut) or (case.attempts.was_turned_away and places_for(case.ask.priority, limits) > 0)


def _line(decision: Saturated | NoEndpoint, from_zero: frozenset[PoolName]) -> Line | None:
    """Where a request that found no place may wait for one; None: nowhere."""
    if isinstance(decision, NoEndpoint):
        pools = tuple(pool for pool in decision.pools if pool in from_zero)
        return Line(pools, is_hold=True) if pools else None
    accepting = frozenset(decision.pools)
    return Line(tuple(pool for pool in decision.fits if pool in accepting or pool in from_zero), is_hold=False)


def _refused_by_all(case: Case) -> TooLong:
    """Every pool that should hold it refused: the replicas run with less than the configuration says."""
    return TooLong(need=case.need, largest_context_tokens=max(pool.context_tokens for pool in case.pools))
