"""The seam between the simulated cluster and whoever says how many replicas a pool should have.

What must not live here: the policy (cluster/core/autoscaling).
"""

from __future__ import annotations

from typing import Protocol

from cluster.core.autoscaling import Decision, PoolDemand, Target


class Scaler(Protocol):
    """Decides for one pool at a time, at every `ClusterSpec.autoscale_every_s`."""

    def decide(self, demand: PoolDemand, target: Target) -> Decision:
        """How many replicas the pool should have."""
        ...
