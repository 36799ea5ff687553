"""A pool's speed from what its replicas tell, over their coming and going.

What must not live here: how one replica's counters become a speed (speed.py), reading leases.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.autoscaling.speed import SpeedMeter
from cluster.core.autoscaling.work import ReplicaWork
from cluster.core.lease import ReplicaId


class PoolMeter:
    """What one replica of a pool does; an empty pool keeps what its replicas did: that is what the next will do.

    Args:
        before: as somebody else last measured it; None: nobody has.
    """

    def __init__(self, before: PoolSpeed | None = None) -> None:
        self.speed = before
        """As last measured."""
        self._meter = SpeedMeter()
        self._metered: frozenset[ReplicaId] = frozenset()

    def measure(self, works: Mapping[ReplicaId, ReplicaWork], *, max_running: int) -> PoolSpeed | None:
        """Take in what each replica tells now; None while nothing is known.

        Args:
            works: of every replica that serves.
            max_running: sequences that one runs at once; 0: not known.
        """
        for replica_id, work in works.items():
            self._meter.observe(replica_id, work.counters)
        for gone in self._metered - works.keys():
            self._meter.forget(gone)
        self._metered = frozenset(works)
        if works:
            kv_tokens = min(work.kv_tokens for work in works.values())
            self.speed = self._meter.speed(kv_tokens=kv_tokens, max_running=max_running) or self.speed
        return self.speed
