"""Who says how many replicas a pool should have: the seam, and the production policy behind it.

What must not live here: the policy (cluster/core/autoscaling), starting and stopping (fleet.py).
"""

from __future__ import annotations

from typing import Protocol

from cluster.core.autoscaling import Decision, PoolAutoscaler, PoolDemand, Target
from cluster.core.lease import PoolName


class Scaler(Protocol):
    """Decides for one pool at a time, at every `ClusterSpec.autoscale_every_s`."""

    def decide(self, demand: PoolDemand, target: Target) -> Decision:
        """How many replicas the pool should have."""
        ...


class ProductionScaler:
    """The production policy, one for each pool."""

    def __init__(self) -> None:
        self._pools: dict[PoolName, PoolAutoscaler] = {}

    def decide(self, demand: PoolDemand, target: Target) -> Decision:
        """As `Scaler` says."""
        policy = self._pools.get(demand.pool)
        if policy is None:
            policy = self._pools[demand.pool] = PoolAutoscaler(target)
        policy.target = target
        return policy.decide(demand)
