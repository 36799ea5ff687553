"""One pool's demand, put together from what its replicas and all gateways tell.

What must not live here: reading any of it (cluster/control/watch.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from cluster.core.autoscaling.asked import ArrivalTotals, GatewayAsked, of_pool
from cluster.core.autoscaling.demand import PoolDemand
from cluster.core.autoscaling.pool_meter import PoolMeter
from cluster.core.autoscaling.startup import StartupClock
from cluster.core.autoscaling.work import ReplicaWork, works_of
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState


class Gatherer:
    """Keeps of one pool what outlives its replicas: arrivals, the last known speed, how long a start takes.

    Args:
        pool: whose demand.
        ray_cluster: where the replicas run whose number is decided; an upgrade and a canary have others in the pool.
        before: the pool's demand as somebody else last gathered it, which has what is measured slowly; None: none.
    """

    def __init__(self, pool: PoolName, *, ray_cluster: str = "", before: PoolDemand | None = None) -> None:
        self.pool = pool
        self._ray_cluster = ray_cluster
        self.startup = StartupClock(None if before is None else before.startup_s)
        self._arrivals = ArrivalTotals()
        self._meter = PoolMeter(None if before is None else before.speed)
        self._own_startup_s: float | None = None
        self._is_first = True

    def demand(
        self, leases: Sequence[Lease], gateways: Sequence[GatewayAsked], *, target: int, now_s: float
    ) -> PoolDemand:
        """The pool now.

        Args:
            leases: of every live replica, of other pools too.
            gateways: of every live gateway.
            target: replicas that Serve is to run.
            now_s: monotonic seconds.
        """
        live = [lease for lease in leases if self._is_own(lease) and lease.state is ReplicaState.READY]
        ready = min(len(live), target)
        self.startup.seen([lease.replica_id for lease in live], now_s)
        if self._is_first:
            # They were ordered a moment ago, when the pool was submitted, or by a controller that is gone.
            self.startup.ordered(ready, target, now_s)
            self._is_first = False
        self.startup.settle(target - ready)
        works = works_of(live)
        asked = of_pool(gateways, self.pool)
        held_tokens = sum(told.held_tokens for told in asked.values())
        return PoolDemand(
            pool=self.pool,
            now_s=now_s,
            ready=ready,
            starting=target - ready,
            running=sum(lease.running for lease in live),
            waiting=sum(lease.waiting for lease in live),
            held=sum(told.held for told in asked.values()),
            oldest_wait_s=max((told.oldest_wait_s for told in asked.values()), default=0.0),
            prefill_tokens=held_tokens + sum(lease.prefill_tokens for lease in live),
            resident_tokens=int(fmean(work.resident_tokens for work in works.values())) if works else 0,
            kv_use_ratio=fmean(lease.kv_use_ratio for lease in live) if live else 0.0,
            arrivals=self._arrivals.update(asked),
            speed=self._meter.measure(works, max_running=max((lease.max_running for lease in live), default=0)),
            startup_s=self._startup_s(works),
        )

    def _is_own(self, lease: Lease) -> bool:
        return lease.pool == self.pool and lease.ray_cluster == self._ray_cluster

    def _startup_s(self, works: Mapping[ReplicaId, ReplicaWork]) -> float | None:
        """As seen from the order; until then what replicas say themselves, which is less."""
        started = [work.startup_s for work in works.values() if work.startup_s > 0]
        if started:
            self._own_startup_s = fmean(started)
        return self._own_startup_s if self.startup.startup_s is None else self.startup.startup_s
