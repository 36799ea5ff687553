"""Who can take a request right now: replicas by their leases, static endpoints by their probes, and what we sent them.

A background task reads the leases; requests only look at the last snapshot, so Redis is never on their path. When
Redis is away the snapshot stays as it is. What must not live here: choosing (cluster/core/routing.py), HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from redis.exceptions import RedisError

from cluster.core.lease import LEASE_TTL_S, Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.routing import Endpoint, Pool
from services.gateway.catalog import Catalog, ServedModel

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""Half of a renewal: a draining replica is known here within a second of its own notice."""
SUSPECT_S = 2.0
"""How long an endpoint that failed comes last. Bounded, because a lease says it lives: the failure may be over."""
RETURN_GRACE_S = LEASE_TTL_S
"""After an outage Redis may come back empty: replicas get this long to write their leases again before an absent
lease counts as a dead replica."""


class LeaseReader(Protocol):
    """Where leases come from; LeaseStore is one."""

    async def leases(self) -> tuple[Lease, ...]:
        """Every live lease."""
        ...


class EndpointState(StrEnum):
    """How an endpoint stands, for metrics and /ready."""

    READY = "ready"
    SUSPECT = "suspect"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    leases: tuple[Lease, ...]
    read_s: float | None
    """When the store last answered, on the directory's clock; None before the first answer."""


class Directory:
    """The endpoints of every pool, as far as this gateway knows."""

    def __init__(self, store: LeaseReader | None, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._snapshot = _Snapshot(leases=(), read_s=None)
        self._is_away = False
        self._returned_s: float | None = None
        self._in_flight: dict[ReplicaId, int] = {}
        self._suspect_until_s: dict[ReplicaId, float] = {}
        self._down: frozenset[ReplicaId] = frozenset()

    async def follow(self) -> None:
        """Read the leases again and again until cancelled; returns at once where there is no store."""
        while self._store is not None:
            await self.refresh()
            await asyncio.sleep(POLL_S)

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
                    extra={"error": f"{type(error).__name__}: {error}", "replicas": len(self._snapshot.leases)},
                )
            self._is_away = True
            return
        now_s = self._clock()
        if self._is_away:
            self._is_away = False
            self._returned_s = now_s
            logger.info("state store is back", extra={"leases": len(leases)})
        self._snapshot = _Snapshot(leases=self._with_absent(leases, now_s), read_s=now_s)

    def _with_absent(self, leases: tuple[Lease, ...], now_s: float) -> tuple[Lease, ...]:
        """`leases`, and for a while after an outage those that may just not have been written again yet."""
        if self._returned_s is None or now_s - self._returned_s >= RETURN_GRACE_S:
            return leases
        present = {lease.replica_id for lease in leases}
        return leases + tuple(lease for lease in self._snapshot.leases if lease.replica_id not in present)

    @property
    def age_s(self) -> float | None:
        """Seconds since the store last answered; None where there is none or it never did."""
        return None if self._snapshot.read_s is None else self._clock() - self._snapshot.read_s

    def set_down(self, down: frozenset[ReplicaId]) -> None:
        """Tell which static endpoints fail their probe."""
        self._down = down

    def suspect(self, replica_id: ReplicaId) -> None:
        """This endpoint failed a request: for a short while it comes last."""
        now_s = self._clock()
        self._suspect_until_s = {key: until for key, until in self._suspect_until_s.items() if until > now_s}
        self._suspect_until_s[replica_id] = now_s + SUSPECT_S

    def started(self, replica_id: ReplicaId) -> None:
        """A request goes to this endpoint; it counts as load at once, long before a lease tells of it."""
        self._in_flight[replica_id] = self._in_flight.get(replica_id, 0) + 1

    def finished(self, replica_id: ReplicaId) -> None:
        """A request that `started` told of has ended."""
        left = self._in_flight.get(replica_id, 0) - 1
        if left > 0:
            self._in_flight[replica_id] = left
        else:
            self._in_flight.pop(replica_id, None)

    def endpoints(self, catalog: Catalog, pools: Collection[PoolName]) -> list[Endpoint]:
        """The known endpoints of `pools`, static ones included."""
        found = [
            Endpoint(
                replica_id=lease.replica_id,
                pool=lease.pool,
                url=lease.url,
                accepts=lease.state is ReplicaState.READY,
                load=lease.running + lease.waiting + self._in_flight.get(lease.replica_id, 0),
                is_suspect=self._is_suspect(lease.replica_id),
            )
            for lease in self._snapshot.leases
            if lease.pool in pools
        ]
        found += [
            Endpoint(
                replica_id=static.replica_id,
                pool=static.pool,
                url=static.url,
                accepts=True,
                load=self._in_flight.get(static.replica_id, 0),
                is_suspect=static.replica_id in self._down or self._is_suspect(static.replica_id),
            )
            for static in catalog.statics
            if static.pool in pools
        ]
        return found

    def pools(self, model: ServedModel) -> tuple[Pool, ...]:
        """The pools of `model`; a replica that runs with less than configured lowers its pool's limit."""
        lowest: dict[PoolName, int] = {}
        for lease in self._snapshot.leases:
            lowest[lease.pool] = min(lease.context_tokens, lowest.get(lease.pool, lease.context_tokens))
        return tuple(
            Pool(
                name=pool.name,
                model=model.section.id,
                context_tokens=min(pool.context_tokens, lowest.get(pool.name, pool.context_tokens)),
                verifies=not pool.is_static,
            )
            for pool in model.pools
        )

    def states(self, catalog: Catalog) -> dict[PoolName, dict[EndpointState, int]]:
        """How many endpoints of each pool stand how."""
        counts = {pool.name: dict.fromkeys(EndpointState, 0) for model in catalog.models for pool in model.pools}
        for endpoint in self.endpoints(catalog, counts.keys()):
            state = EndpointState.READY
            if not endpoint.accepts:
                state = EndpointState.DRAINING
            elif endpoint.is_suspect:
                state = EndpointState.SUSPECT
            counts[endpoint.pool][state] += 1
        return counts

    def _is_suspect(self, replica_id: ReplicaId) -> bool:
        return self._suspect_until_s.get(replica_id, 0.0) > self._clock()
