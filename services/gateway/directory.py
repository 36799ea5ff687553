"""Who is there: the leases of every replica, the static endpoints, and what this gateway did to each of them.

It keeps the routing core's table up to date; nothing on a request's path waits for Redis. What must not live here:
choosing (cluster/core/routing), connections, the configuration's meaning (catalog.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from redis.exceptions import RedisError

from cluster.core.lease import LEASE_TTL_S, Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.routing import Breakers, BreakerState, Endpoint, EndpointTable, Pool
from cluster.core.routing.endpoint import Member
from cluster.core.routing.pools import ANY_LENGTH
from services.gateway.catalog import Catalog, ServedModel, StaticEndpoint

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""Half of a renewal: a draining replica is known here within a second of its own notice."""
SUSPECT_S = 2.0
"""How long an endpoint that failed comes last. Bounded, because a lease says it lives: the failure may be over."""
FULL_S = 1.0
"""How long a replica that was full counts as full without a report: two renewals."""
RETURN_GRACE_S = LEASE_TTL_S
"""After an outage Redis may come back empty, and it may lose everything without one: replicas get this long to write
their leases again before an absent lease counts as a dead replica."""


class LeaseReader(Protocol):
    """What the directory needs of the state store; cluster/state's LeaseStore is one."""

    async def leases(self) -> tuple[Lease, ...]:
        """Every live lease."""
        ...

    async def drain(self, replica_id: ReplicaId, for_s: float | None) -> None:
        """Keep a replica out of use for so long on every gateway; None: let it take work again."""
        ...


class EndpointState(StrEnum):
    """How an endpoint stands, for metrics and /ready."""

    READY = "ready"
    SUSPECT = "suspect"
    DRAINING = "draining"


class Directory:
    """The endpoints of every pool, as far as this gateway knows."""

    def __init__(self, store: LeaseReader | None, *, clock: Callable[[], float]) -> None:
        self.table = EndpointTable()
        self._breakers = Breakers()
        self._store = store
        self._clock = clock
        self._leases: dict[ReplicaId, Lease] = {}
        self._read_s: float | None = None
        self._is_away = False
        self._returned_s: float | None = None
        self._was_emptied = False
        """Whether it had no lease at the last reading, after one with several."""
        self._suspect_until_s: dict[ReplicaId, float] = {}
        self._full_until_s: dict[ReplicaId, float] = {}
        self._down: frozenset[ReplicaId] = frozenset()
        self._statics: frozenset[ReplicaId] = frozenset()
        self._pools: dict[str, tuple[ServedModel, tuple[Pool, ...]]] = {}
        self._prefers: Mapping[PoolName, int] = {}
        self.on_change: Callable[[], object] | None = None
        """Called after endpoints may have got room: whoever waits for some is asked again."""
        self.on_gone: Callable[[Lease], object] | None = None
        """Called with a lease that has run out, or that was handed back."""
        self._reading = asyncio.Event()
        """Set when the leases have been read; another one each time."""

    async def follow(self) -> None:
        """Read the leases again and again until cancelled, and let suspicions and breakers run out."""
        while True:
            await self.refresh()
            self.tick()
            await asyncio.sleep(POLL_S)

    async def next_reading(self) -> None:
        """Return once the leases have been read again: whoever is new is in the table then."""
        await self._reading.wait()

    def use(self, catalog: Catalog) -> None:
        """Take over the static endpoints and pools of a configuration."""
        self._pools.clear()
        self.table.split(pool.name for model in catalog.models for pool in model.pools if pool.shares)
        for gone in self._statics - {static.replica_id for static in catalog.statics}:
            self._remove(gone)
        for static in catalog.statics:
            self.table.put(_static_endpoint(static))
        self._statics = frozenset(static.replica_id for static in catalog.statics)

    def prefer(self, tokens: Mapping[PoolName, int]) -> None:
        """Have longer requests go to a larger pool first; pools that are not named take what they hold."""
        if tokens != self._prefers:
            self._prefers = tokens
            self._pools.clear()

    async def refresh(self) -> None:
        """Read the leases once; a store that does not answer leaves everything as it is."""
        if self._store is None:
            return
        try:
            leases = await self._store.leases()
        except (RedisError, OSError, ValueError, TypeError, KeyError) as error:
            if not self._is_away:
                logger.warning(
                    "state store away, going on with the last known replicas",
                    extra={"error": f"{type(error).__name__}: {error}", "replicas": len(self._leases)},
                )
            self._is_away = True
            return
        now_s = self._clock()
        if self._is_away:
            self._is_away = False
            self._returned_s = now_s
            logger.info("state store is back", extra={"leases": len(leases)})
        elif len(self._leases) > 1 and not leases and not self._was_emptied:
            # Several replicas do not die in one moment: the store was emptied, or its clock was set.
            self._was_emptied = True
            self._returned_s = now_s
            logger.warning("state store has lost every lease", extra={"replicas": len(self._leases)})
        if leases:
            self._was_emptied = False
        self._read_s = now_s
        self._take_over({lease.replica_id: lease for lease in leases}, now_s)

    def _take_over(self, leases: dict[ReplicaId, Lease], now_s: float) -> None:
        if self._returned_s is not None and now_s - self._returned_s < RETURN_GRACE_S:
            # They may just not have been written again yet.
            leases = self._leases | leases
        for gone in self._leases.keys() - leases.keys():
            self._remove(gone)
            if self.on_gone is not None:
                self.on_gone(self._leases[gone])
        for lease in leases.values():
            self.table.put(_leased_endpoint(lease))
            if lease.replica_id not in self._leases:
                self._mark(lease.replica_id)
        self._leases = leases
        self._pools.clear()
        if self.on_change is not None:
            self.on_change()
        self._reading.set()
        self._reading = asyncio.Event()

    def tick(self) -> None:
        """Let suspicions end and breakers try again when their time has come."""
        now_s = self._clock()
        for replica_id in [key for key, until_s in self._suspect_until_s.items() if until_s <= now_s]:
            del self._suspect_until_s[replica_id]
            self._mark(replica_id)
        for replica_id in [key for key, until_s in self._full_until_s.items() if until_s <= now_s]:
            del self._full_until_s[replica_id]
            self.table.believe_again(replica_id)
        for replica_id, state in self._breakers.states(now_s).items():
            self.table.set_breaker(replica_id, is_open=state is BreakerState.OPEN)

    @property
    def age_s(self) -> float | None:
        """Seconds since the store last answered; None where there is none or it never did."""
        return None if self._read_s is None else self._clock() - self._read_s

    @property
    def is_informed(self) -> bool:
        """Whether the store has told once who is there; there may be none to ask."""
        return self._store is None or self._read_s is not None

    def leases(self) -> Mapping[ReplicaId, Lease]:
        """What every live replica last said."""
        return self._leases

    def set_down(self, down: frozenset[ReplicaId]) -> None:
        """Tell which static endpoints fail their probe."""
        changed = down ^ self._down
        self._down = down
        for replica_id in changed:
            self._mark(replica_id)

    def suspect(self, replica_id: ReplicaId) -> None:
        """This endpoint failed or is leaving: for a short while it comes last."""
        self._suspect_until_s[replica_id] = self._clock() + SUSPECT_S
        self._mark(replica_id)

    def failed(self, replica_id: ReplicaId) -> None:
        """Its transport failed."""
        self.suspect(replica_id)
        self.table.set_breaker(replica_id, is_open=self._breakers.failed(replica_id, self._clock()))

    def answered(self, replica_id: ReplicaId) -> None:
        """It answered, whatever the status: its transport works."""
        if self._breakers.has(replica_id):
            self.table.set_breaker(replica_id, is_open=self._breakers.answered(replica_id))

    def full(self, replica_id: ReplicaId) -> None:
        """It refused a request as full; told before that one counts as finished."""
        self._full_until_s[replica_id] = self._clock() + FULL_S
        self.table.refused(replica_id)

    def started(self, replica_id: ReplicaId, prefill_tokens: int) -> None:
        """A request goes to this endpoint; it counts as load at once, long before a lease tells of it."""
        self.table.started(replica_id, prefill_tokens)
        if self._breakers.started(replica_id, self._clock()):
            self.table.set_breaker(replica_id, is_open=True)

    def pools(self, model: ServedModel) -> tuple[Pool, ...]:
        """The pools of `model`; a replica that runs with less than configured lowers its pool's limit."""
        known = self._pools.get(model.section.id)
        if known is not None and known[0] is model:
            return known[1]
        lowest: dict[PoolName, int] = {}
        for lease in self._leases.values():
            lowest[lease.pool] = min(lease.context_tokens, lowest.get(lease.pool, lease.context_tokens))
        pools = tuple(
            Pool(
                name=pool.name,
                model=model.section.id,
                context_tokens=min(pool.context_tokens, lowest.get(pool.name, pool.context_tokens)),
                verifies=not pool.is_static,
                shares=pool.shares,
                prefers_tokens=self._prefers.get(pool.name, ANY_LENGTH),
            )
            for pool in model.pools
        )
        self._pools[model.section.id] = (model, pools)
        return pools

    def states(self, catalog: Catalog) -> dict[PoolName, dict[EndpointState, int]]:
        """How many endpoints of each pool stand how."""
        counts = {pool.name: dict.fromkeys(EndpointState, 0) for model in catalog.models for pool in model.pools}
        for member in self.table.members():
            if member.endpoint.pool in counts:
                counts[member.endpoint.pool][state_of(member)] += 1
        return counts

    async def drain(self, replica_id: ReplicaId, for_s: float | None) -> None:
        """Keep a replica out of use for so long, here at once and on other gateways when they next read; None: no more.

        Raises:
            redis.exceptions.RedisError: the store does not answer; so does OSError.
        """
        if self._store is not None:
            await self._store.drain(replica_id, for_s)
            await self.refresh()

    def _remove(self, replica_id: ReplicaId) -> None:
        self.table.remove(replica_id)
        self._breakers.forget(replica_id)
        self._suspect_until_s.pop(replica_id, None)
        self._full_until_s.pop(replica_id, None)

    def _mark(self, replica_id: ReplicaId) -> None:
        is_suspect = replica_id in self._suspect_until_s or replica_id in self._down
        self.table.set_suspect(replica_id, is_suspect=is_suspect)


def state_of(member: Member) -> EndpointState:
    """How one endpoint stands."""
    if not member.endpoint.accepts:
        return EndpointState.DRAINING
    return EndpointState.SUSPECT if member.is_suspect or member.is_breaker_open else EndpointState.READY


def _leased_endpoint(lease: Lease) -> Endpoint:
    return Endpoint(
        replica_id=lease.replica_id,
        pool=lease.pool,
        url=lease.url,
        accepts=lease.state is ReplicaState.READY,
        running=lease.running,
        waiting=lease.waiting,
        capacity=lease.max_running,
        queue_limit=lease.max_waiting,
        kv_use_ratio=lease.kv_use_ratio,
        prefill_tokens=lease.prefill_tokens,
        adapters=frozenset(lease.adapters),
        revision=lease.revision,
        # Two readings of one lease agree in this too; two leases of an idle replica differ in it.
        report=hash(lease.step_age_s),
    )


def _static_endpoint(static: StaticEndpoint) -> Endpoint:
    return Endpoint(replica_id=static.replica_id, pool=static.pool, url=static.url, accepts=True)
