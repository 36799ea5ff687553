"""The baselines by name.

What must not live here: what they do.
"""

from __future__ import annotations

from enum import StrEnum

from cluster.simulator.baselines.prefix import ApproximatePrefix, ExactPrefix
from cluster.simulator.baselines.shared import (
    BaselineRouter,
    LeastRequest,
    PowerOfTwo,
    RoundRobin,
    ShortestFirst,
)
from cluster.simulator.baselines.static import StaticPools
from cluster.simulator.cluster import ClusterSpec


class Baseline(StrEnum):
    """What `--policy` calls them."""

    ROUND_ROBIN = "shared-round-robin"
    LEAST_REQUEST = "shared-least-request"
    POWER_OF_TWO = "shared-power-of-two"
    SHORTEST_FIRST = "shared-shortest-first"
    APPROXIMATE_PREFIX = "shared-approximate-prefix"
    EXACT_PREFIX = "shared-exact-prefix"
    STATIC_POOLS = "static-pools"

    @property
    def is_shared(self) -> bool:
        """Whether it has one pool for everything."""
        return self is not Baseline.STATIC_POOLS


_SHARED: dict[Baseline, type[BaselineRouter]] = {
    Baseline.ROUND_ROBIN: RoundRobin,
    Baseline.LEAST_REQUEST: LeastRequest,
    Baseline.POWER_OF_TWO: PowerOfTwo,
    Baseline.SHORTEST_FIRST: ShortestFirst,
    Baseline.APPROXIMATE_PREFIX: ApproximatePrefix,
    Baseline.EXACT_PREFIX: ExactPrefix,
}


def baseline_router(baseline: Baseline, cluster: ClusterSpec) -> BaselineRouter:
    """A new router for one run on this cluster.

    Raises:
        ValueError: a shared pool was asked for, and the cluster has several.
    """
    if baseline is Baseline.STATIC_POOLS:
        return StaticPools({pool.name: pool.context_tokens for pool in cluster.pools})
    if len(cluster.pools) != 1:
        raise ValueError(f"{baseline} has one pool; the cluster has {len(cluster.pools)}")
    return _SHARED[baseline]()
