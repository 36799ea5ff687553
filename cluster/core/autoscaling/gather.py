"""One pool's demand, put together from what its replicas and all gateways tell.

What must not live here: reading any of it (cluster/control/watch.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from cluster.core.autoscaling.asked import ArrivalTotals, GatewayAsked, of_pool
from cluster.core.autoscaling.demand import PoolDemand, PoolSpeed
from cluster.core.autoscaling.startup import StartupClock
from cluster.core.autoscaling.work import ReplicaWork, pool_speed
from cluster.core.lease import Lease, PoolName, ReplicaState


class Gatherer:
    """Keeps of one pool what outlives its replicas: arrivals, the last known speed, how long a start takes.

    Args:
        pool: whose demand.
        startup_s: as `StartupClock`.
        speed: what its replicas did in an earlier life; None: not known.
    """

    def __init__(self, pool: PoolName, *, startup_s: float | None = None, speed: PoolSpeed | None = None) -> None:
        self.pool = pool
        self.startup = StartupClock(startup_s)
        self._arrivals = ArrivalTotals()
        self._speed = speed
        self._own_startup_s: float | None = None

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
        live = [lease for lease in leases if lease.pool == self.pool and lease.state is ReplicaState.READY]
        self.startup.seen([lease.replica_id for lease in live], now_s)
        ready = min(len(live), target)
        self.startup.settle(target - ready)
        works = [work for lease in live if (work := ReplicaWork.from_dict(lease.work)) is not None]
        self._learn(works, max((lease.max_running for lease in live), default=0))
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
            kv_use_ratio=fmean(lease.kv_use_ratio for lease in live) if live else 0.0,
            arrivals=self._arrivals.update(asked),
            speed=self._speed,
            startup_s=self.startup.startup_s or self._own_startup_s,
        )

    def _learn(self, works: Sequence[ReplicaWork], max_running: int) -> None:
        """An empty pool keeps what its replicas did: that is what the next will do."""
        self._speed = pool_speed(works, max_running=max_running) or self._speed
        started = [work.startup_s for work in works if work.startup_s > 0]
        if started:
            self._own_startup_s = fmean(started)
