"""The production core as a router: which production code runs in a simulation, and how it is wired.

    lengths    cluster/core/budget        estimates, where they decide; else counted          (lengths.py)
    prefixes   cluster/core/prefix        the index, from replicas' reports                   (residency.py)
    routing    cluster/core/routing       `route` over an EndpointTable, a profile, pools, spill and reserve
    retries    cluster/core/admission     RetryBudget
    waiting    cluster/core/admission     FairQueue, DrainRate, Deadline                      (line.py)
    scaling    cluster/core/autoscaling   PoolAutoscaler, SpeedMeter               (scaler.py, fleet.py)

The wiring is services/gateway/places.py without sockets: claim an endpoint, or wait, or say no. One gateway; all
requests of a tenant are equal, and a replica that is full counts as one that failed. What must not live here: rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.core.admission.deadline import Deadline
from cluster.core.admission.retry_budget import RetryBudget
from cluster.core.admission.ticket import Ticket
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    NOTHING_RESIDENT,
    Choice,
    Decision,
    Endpoint,
    EndpointTable,
    NoEndpoint,
    Pool,
    Query,
    Saturated,
    TooLong,
    profile_of,
    route,
    session_hash,
)
from cluster.core.routing.pools import ANY_LENGTH
from cluster.core.tenant import TenantName
from cluster.simulator.arrivals import ArrivalCounts
from cluster.simulator.cluster import ClusterSpec
from cluster.simulator.lengths import Lengths
from cluster.simulator.line import Line
from cluster.simulator.outcome import Fate
from cluster.simulator.residency import BlockChain, Residency
from cluster.simulator.router import Desk, Held, Report

MODEL = "simulated"
LEAST_PREFIX_TOKENS = 256
"""As services/gateway/prefix.py has it: shorter prompts are not looked up."""
SUSPECT_S = 2.0
"""As services/gateway/directory.py has it: how long an endpoint that failed comes last."""
_NOBODY: frozenset[ReplicaId] = frozenset()


class _Case:
    """One request on its way."""

    __slots__ = ("chain", "counted", "home", "need", "prefill_tokens", "sent", "tried", "was_overloaded")

    def __init__(self) -> None:
        self.need: ContextNeed
        self.counted: PromptTokens
        self.chain: BlockChain | None = None
        self.home: PoolName | None = None
        """The smallest pool that holds it, once that is known."""
        self.prefill_tokens = 0
        """As the table was told, until its first token."""
        self.tried = _NOBODY
        self.sent = 0
        self.was_overloaded = False
        """Its latest try found a full queue."""


class ProductionRouter:
    """Every decision as production makes it."""

    def __init__(self, cluster: ClusterSpec) -> None:
        """A gateway that knows nobody yet.

        Args:
            cluster: its pools and its gateway's settings.

        Raises:
            ValueError: there is no such policy, or the reserve is no ratio.
        """
        self._spec = cluster.gateway
        self._profile = profile_of(self._spec.policy, reserve_ratio=self._spec.reserve_ratio)
        self._limits = {pool.name: pool.context_tokens for pool in cluster.pools}
        """What replicas take."""
        self._specs = {pool.name: pool for pool in cluster.pools}
        self._pools: tuple[Pool, ...] = ()
        self.prefer({})
        self._table = EndpointTable()
        self._retries = RetryBudget()
        self._cases: dict[int, _Case] = {}
        self._numbers: dict[ReplicaId, int] = {}
        self._ids: dict[int, ReplicaId] = {}
        self._reports = 0
        self._arrivals = ArrivalCounts(self._limits)

    @property
    def name(self) -> str:
        """The policy's."""
        return self._spec.policy

    def open(self, desk: Desk) -> None:
        """As `Router` says."""
        self._desk = desk
        self._lengths = Lengths(desk.rng)
        self._line = Line(desk, self._spec, attempt=self._attempt, refuse=self._refuse)
        self._residency = Residency(desk.block_tokens)

    def prefer(self, preferences: Mapping[PoolName, int]) -> None:
        """Let pools prefer requests of up to so many tokens from now on; those not named prefer all that they hold."""
        self._pools = tuple(
            Pool(name=name, model=MODEL, context_tokens=limit, prefers_tokens=preferences.get(name, ANY_LENGTH))
            for name, limit in self._limits.items()
        )

    def joined(self, replica: int, pool: PoolName) -> None:
        """As `Router` says."""
        replica_id = ReplicaId(f"{pool}-{replica}")
        self._ids[replica] = replica_id
        self._numbers[replica_id] = replica
        self._residency.joined(replica_id)
        self._put(Report(replica, pool, 0, 0, 0.0, 0))
        self._line.pump(pool)

    def left(self, replica: int) -> None:
        """As `Router` says."""
        replica_id = self._ids[replica]
        self._table.remove(replica_id)
        self._residency.left(replica_id)

    def reported(self, report: Report) -> None:
        """As `Router` says."""
        self._put(report)
        if report.adds or report.removes:
            self._residency.reported(self._ids[report.replica], report)

    def arrived(self, number: int) -> None:
        """As `Router` says: first its length, in a worker thread where that must be counted."""
        request, desk, spec = self._desk.request(number), self._desk, self._spec
        self._retries.requested(desk.now_s)
        case = self._cases[number] = _Case()
        output_tokens, is_explicit = spec.default_output_tokens, False
        if request.output_tokens > output_tokens:
            output_tokens, is_explicit = request.output_tokens, True
        wait_s = 0.0
        if spec.has_exact_lengths:
            counted = PromptTokens(tokens=request.prompt_tokens, kind=CountKind.EXACT)
        else:
            boundaries = [pool.context_tokens - output_tokens for pool in self._pools]
            counted, wait_s = self._lengths.count(request.prompt_tokens, boundaries)
        case.counted = counted
        case.need = ContextNeed(
            prompt_tokens=counted.tokens,
            output_tokens=output_tokens,
            is_explicit=is_explicit,
            count=counted.kind,
            likely_prompt_tokens=counted.expected_tokens,
        )
        if case.need.expected_prompt_tokens >= LEAST_PREFIX_TOKENS and (keys := desk.keys(number)):
            case.chain = BlockChain(keys)
        if wait_s:
            desk.call_at(desk.now_s + wait_s, lambda: self._place(number))
        else:
            self._place(number)

    def answered(self, number: int, replica: int) -> None:
        """As `Router` says."""
        case = self._cases[number]
        self._table.first_token(self._ids[replica], case.prefill_tokens)
        case.prefill_tokens = 0
        if case.chain is not None:
            self._residency.settled(number, case.chain, self._desk.now_s)

    def ended(self, number: int, replica: int) -> None:
        """As `Router` says."""
        case, request = self._cases[number], self._desk.request(number)
        if case.counted.features is not None:
            self._lengths.learn(case.counted, request.prompt_tokens)
        if case.home is not None:
            self._arrivals.ended(case.home, request.output_tokens)
        self._give_back(number, case, replica)
        del self._cases[number]

    def failed(self, number: int, replica: int) -> None:
        """As `Router` says: it comes last for a while, and somebody else is tried."""
        case, desk, replica_id = self._cases[number], self._desk, self._ids[replica]
        case.tried |= {replica_id}
        case.was_overloaded = False
        self._table.set_suspect(replica_id, is_suspect=True)
        desk.call_at(desk.now_s + SUSPECT_S, lambda: self._table.set_suspect(replica_id, is_suspect=False))
        self._give_back(number, case, replica)
        self._place(number)

    def held(self, pool: PoolName) -> Held:
        """As `Router` says."""
        return self._line.held(pool)._replace(arrivals=self._arrivals.of(pool))

    def _put(self, report: Report) -> None:
        self._reports += 1
        spec = self._specs[report.pool].replica
        self._table.put(
            Endpoint(
                replica_id=self._ids[report.replica],
                pool=report.pool,
                url="",
                accepts=True,
                running=report.running,
                waiting=report.waiting,
                capacity=spec.max_running,
                queue_limit=spec.max_queued,
                kv_use_ratio=report.kv_use_ratio,
                prefill_tokens=report.prefill_tokens,
                report=self._reports,
            )
        )

    def _place(self, number: int) -> None:
        """Send a request, let it wait, or refuse it."""
        saturated = self._claim(number)
        if saturated is None:
            return
        case, request = self._cases[number], self._desk.request(number)
        ticket = Ticket(
            tenant=TenantName(f"tenant-{request.tenant}"),
            pools=saturated.pools,
            cost_tokens=case.need.total_tokens,
            arrived_s=request.arrival_s,
            deadline=Deadline(at_s=request.arrival_s + self._spec.request_s),
        )
        prefill_tokens = case.need.expected_prompt_tokens
        self._line.wait(number, ticket, prefill_tokens=prefill_tokens, is_held=isinstance(saturated, NoEndpoint))

    def _attempt(self, number: int) -> bool:
        return self._claim(number) is None

    def _claim(self, number: int) -> Saturated | NoEndpoint | None:
        """Decide, and send; None where that, or a refusal, is the end of it, else why it has to wait."""
        case = self._cases[number]
        while True:
            decision = self._route(number, case)
            if case.home is None and not isinstance(decision, TooLong):
                case.home = self._arrivals.came(case.need, decision)
            last = None if not case.tried else Fate.OVERLOADED if case.was_overloaded else Fate.GAVE_UP
            is_over = case.sent >= self._spec.attempts
            if isinstance(decision, Decision):
                choice = None if is_over else self._next(decision, case)
                is_allowed = not case.tried or self._retries.take(self._desk.now_s, ratio=self._spec.retry_ratio)
                if choice is not None and is_allowed:
                    if self._send(number, case, choice):
                        return None
                    continue
            elif isinstance(decision, TooLong):
                last = Fate.TOO_LONG
            elif isinstance(decision, Saturated):
                if not is_over and last is not Fate.OVERLOADED:
                    return decision
            elif last is None and self._may_be_held(decision.pools):
                return decision
            self._refuse(number, last or Fate.NO_ENDPOINT)
            return None

    def _route(self, number: int, case: _Case) -> Decision | TooLong | NoEndpoint | Saturated:
        desk, need = self._desk, case.need
        resident: Mapping[ReplicaId, int] = NOTHING_RESIDENT
        if case.chain is not None:
            exact = need.prompt_tokens if need.count is CountKind.EXACT else None
            resident = self._residency.resident(case.chain, exact, desk.now_s)
        request = desk.request(number)
        session = None
        if request.session is not None:
            session = session_hash(f"tenant-{request.tenant}", str(request.session))
        query = Query(need=need, session=session, resident=resident, tried=case.tried)
        return route(query, self._pools, self._table, self._profile, desk.rng)

    @staticmethod
    def _next(decision: Decision, case: _Case) -> Choice | None:
        if decision.first.endpoint.replica_id not in case.tried:
            return decision.first
        return next((one for one in decision.choices if one.endpoint.replica_id not in case.tried), None)

    def _send(self, number: int, case: _Case, choice: Choice) -> bool:
        """Whether the replica took it, as far as can be known now."""
        endpoint = choice.endpoint
        request = self._desk.request(number)
        need = case.need
        is_sure = need.count is CountKind.EXACT
        if not is_sure and request.prompt_tokens + choice.output_tokens > self._limits[endpoint.pool]:
            # The replica counts and refuses, and the gateway knows the length from then on. It takes no time here.
            case.need = ContextNeed(
                prompt_tokens=request.prompt_tokens, output_tokens=need.output_tokens, is_explicit=need.is_explicit
            )
            return False
        replica_id = endpoint.replica_id
        case.sent += 1
        if not self._desk.send(number, self._numbers[replica_id]):
            case.tried |= {replica_id}
            case.was_overloaded = True
            return False
        case.prefill_tokens = choice.prefill_tokens
        self._table.started(replica_id, case.prefill_tokens)
        if case.chain is not None:
            self._residency.sent(number, case.chain, replica_id)
        return True

    def _give_back(self, number: int, case: _Case, replica: int) -> None:
        self._table.finished(self._ids[replica], case.prefill_tokens)
        case.prefill_tokens = 0
        if case.chain is not None:
            self._residency.forget(number, case.chain)
        self._line.pump(self._pool_of(replica), 1)

    def _pool_of(self, replica: int) -> PoolName:
        return PoolName(self._ids[replica].rpartition("-")[0])

    def _may_be_held(self, pools: Sequence[PoolName]) -> bool:
        """Whether an autoscaler may start replicas for a request that finds none."""
        return any((target := self._specs[name].target) is not None and target.max_replicas > 0 for name in pools)

    def _refuse(self, number: int, fate: Fate) -> None:
        del self._cases[number]
        self._desk.refuse(number, fate)
