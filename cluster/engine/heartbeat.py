"""A replica's voice in the state store: leases while it serves, reports for people.

Redis away costs the replica nothing: it keeps serving and keeps trying. What must not live here: when a replica is
alive or draining (cluster/engine/replica.py decides).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine

from redis.exceptions import RedisError

from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport
from cluster.engine.start_clock import StartClock
from cluster.state.leases import LeaseStore, connect
from cluster.state.login import StateServer

log = logging.getLogger("longreach.engine")
GOODBYE_TIMEOUT_S = 1.0
"""A stopping replica does not wait longer than this for Redis to take its last words."""


class Heartbeat:
    """Writes leases and reports of one replica; never raises because of Redis."""

    def __init__(
        self,
        *,
        state: str | StateServer | None,
        cluster: str,
        replica_id: ReplicaId,
        pool: PoolName,
        node: str,
        start: StartClock,
    ) -> None:
        self._store = LeaseStore(connect(state), cluster) if state is not None else None
        self._replica_id = replica_id
        self._pool = pool
        self._node = node
        self._start = start
        self._began_s = time.monotonic()
        self._reachable = True
        self._report: ReplicaReport | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the replica began to start."""
        return time.monotonic() - self._began_s

    async def report(self, phase: ReplicaPhase, detail: str, *, error: str = "") -> None:
        """Say where this replica is in its life."""
        log.info("replica=%s pool=%s phase=%s detail=%s error=%s", self._replica_id, self._pool, phase, detail, error)
        report = self._report = ReplicaReport(
            replica_id=self._replica_id,
            pool=self._pool,
            phase=phase,
            detail=detail,
            pid=os.getpid(),
            node=self._node,
            phase_s=self.age_s,
            written_s=time.time(),
            last_error=error,
            start_s=dict(self._start.stages),
        )
        if self._store is not None:
            await self._try("report", self._store.put_report(report))

    async def renew(self, lease: Lease) -> None:
        """Write or renew the lease, and the last report as well where the store has lost it."""
        if self._store is not None:
            await self._try("lease", self._renew(self._store, lease))

    async def _renew(self, store: LeaseStore, lease: Lease) -> None:
        is_reported = await store.put_lease(lease)
        if not is_reported and self._report is not None:
            await store.put_report(self._report)

    async def withdraw(self) -> None:
        """Take the lease back at once."""
        if self._store is not None:
            try:
                async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                    await self._try("withdrawal", self._store.drop_lease(self._replica_id))
            except TimeoutError:
                log.warning("replica=%s lease not withdrawn in time; it expires by itself", self._replica_id)

    async def _try(self, what: str, call: Coroutine[object, object, None]) -> None:
        try:
            await call
        except (RedisError, OSError) as error:
            if self._reachable:
                log.warning("replica=%s %s not written, state store away: %s", self._replica_id, what, error)
            self._reachable = False
        else:
            self._reachable = True
