"""A thread that reads one pool's demand and writes what was decided, so that Serve's controller never waits.

Whoever decides takes the latest snapshot and leaves what is to be written; the store away costs it nothing but news.
What must not live here: deciding, what the snapshot means (cluster/core/autoscaling/gather.py).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from redis.exceptions import RedisError

from cluster.core.autoscaling.asked import GatewayAsked
from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.lease import Lease, PoolName
from cluster.state.autoscale import AutoscaleStore
from cluster.state.leases import LeaseStore, connect
from cluster.state.login import StateServer

log = logging.getLogger("ray.serve.longreach")
"""Below Serve's own, so that it is in the controller's log."""
READ_S = 0.25
"""As often as gateways tell: the rest of the time from a request to an order is Serve's control loop, 0.12 s."""
RECORD_S = 1.0
"""How often a decision is written that changes nothing."""
UNWRITTEN_MAX = 50
"""Decisions kept while the store is away; what a pool keeps in the store is no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read at one moment."""

    at_s: float
    """Monotonic seconds."""
    leases: tuple[Lease, ...]
    gateways: tuple[GatewayAsked, ...]
    pinned: int | None
    before: AutoscaleRecord | None
    """What an earlier controller last wrote; only of the first reading."""


class DemandWatch:
    """Reads again and again in a thread of its own, from `start` to `stop`.

    Args:
        state: the state store.
        cluster: the cluster's name.
        pool: whose decisions it reads and writes.
    """

    def __init__(self, state: StateServer, cluster: str, pool: PoolName) -> None:
        self._state = state
        self._cluster = cluster
        self._pool = pool
        self._seen: Seen | None = None
        self._is_over = False
        self._record: AutoscaleRecord | None = None
        self._written: AutoscaleRecord | None = None
        self._past: deque[PastDecision] = deque(maxlen=UNWRITTEN_MAX)
        self._is_away = False

    @property
    def seen(self) -> Seen | None:
        """The latest; None before the first."""
        return self._seen

    def start(self) -> None:
        """Begin; the thread ends with its process."""
        threading.Thread(target=self._run, name=f"longreach-demand-{self._pool}", daemon=True).start()

    def stop(self) -> None:
        """End within a reading."""
        self._is_over = True

    def tell(self, record: AutoscaleRecord, past: PastDecision | None) -> None:
        """Leave a decision to be written; `past` where it changes something."""
        self._record = record
        if past is not None:
            self._past.append(past)

    def _run(self) -> None:
        while not self._is_over:
            try:
                asyncio.run(self._follow())
            except Exception:
                # The root of this thread: whatever is wrong with a reading, the next may be right.
                log.exception("longreach pool=%s demand could not be read", self._pool)
                time.sleep(RECORD_S)

    async def _follow(self) -> None:
        redis = connect(self._state)
        leases, store = LeaseStore(redis, self._cluster), AutoscaleStore(redis, self._cluster)
        try:
            while not self._is_over:
                try:
                    await self._step(leases, store)
                except (RedisError, OSError) as error:
                    self._tell_absence(error)
                else:
                    self._is_away = False
                await asyncio.sleep(READ_S)
        finally:
            await redis.aclose()

    async def _step(self, leases: LeaseStore, store: AutoscaleStore) -> None:
        began_s = time.monotonic()
        pools = (self._pool,)
        # Once: from then on this is who decides.
        before = (await store.records(pools)).get(self._pool) if self._seen is None else None
        live, gateways, pins = await leases.leases(), await store.asked(), await store.pins(pools)
        # As of before it was read: it is at least as old.
        self._seen = Seen(at_s=began_s, leases=live, gateways=gateways, pinned=pins.get(self._pool), before=before)
        await self._write(store)

    async def _write(self, store: AutoscaleStore) -> None:
        record, written = self._record, self._written
        if record is not None and (written is None or self._past or record.written_s - written.written_s >= RECORD_S):
            await store.put_record(record)
            self._written = record
        while self._past:
            await store.add_past(self._past[0])
            self._past.popleft()

    def _tell_absence(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("longreach pool=%s state store away, the number of replicas stays: %s", self._pool, error)
        self._is_away = True
