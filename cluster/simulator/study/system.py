"""What is compared: cards in pools, and who decides over them.

What must not live here: which of them is better (search.py, compare.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.core.autoscaling import ServiceLevel, Target
from cluster.core.lease import PoolName
from cluster.simulator.adaptive import AdaptiveRouter
from cluster.simulator.baselines import Baseline, baseline_router
from cluster.simulator.cluster import ClusterSpec, GatewaySpec, PoolSpec, ReplicaSpec
from cluster.simulator.configured import AUTOSCALE_EVERY_S
from cluster.simulator.outcome import Result
from cluster.simulator.router import Router
from cluster.simulator.scaler import Scaler
from cluster.simulator.simulate import simulate
from cluster.simulator.trace import Trace

UNLIMITED_QUEUE = 1_000_000
"""Baselines put everything into vLLM's own line, which has no end."""
SHARED_POOL = PoolName("shared")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One contestant."""

    name: str
    cluster: ClusterSpec
    baseline: Baseline | None = None
    """None: Longreach's production core."""
    follows: ServiceLevel | None = None
    """Whether, and for what, its boundary follows the traffic."""
    scaler: Callable[[], Scaler] | None = None
    """Who sizes its pools, where they have a target; None: the production policy."""

    def run(self, trace: Trace, *, seed: int, progress: Callable[[int], None] | None = None) -> Result:
        """A run, under this system's name."""
        scaler = None if self.scaler is None else self.scaler()
        found = simulate(trace, self.cluster, router=self._router(), scaler=scaler, seed=seed, progress=progress)
        return replace(found, router=self.name)

    def _router(self) -> Router | None:
        if self.baseline is not None:
            return baseline_router(self.baseline, self.cluster)
        return None if self.follows is None else AdaptiveRouter(self.cluster, level=self.follows)


def shared_system(baseline: Baseline, spec: ReplicaSpec, *, gpus: int, context_tokens: int) -> System:
    """One pool of all cards, and somebody else's router.

    Raises:
        ValueError: the baseline is not of one pool.
    """
    if not baseline.is_shared:
        raise ValueError(f"{baseline} is not of one pool")
    pool = PoolSpec(name=SHARED_POOL, context_tokens=context_tokens, replica=spec, replicas=gpus)
    return System(name=baseline.value, cluster=patient(ClusterSpec(pools=(pool,))), baseline=baseline)


def merged(cluster: ClusterSpec) -> ClusterSpec:
    """All replicas in one pool, as the pool with the longest contexts has them."""
    largest = max(cluster.pools, key=lambda pool: pool.context_tokens)
    replicas = sum(pool.replicas for pool in cluster.pools)
    running = max(pool.replica.max_running for pool in cluster.pools)
    one = replace(
        largest, name=SHARED_POOL, replicas=replicas, target=None, replica=replace(largest.replica, max_running=running)
    )
    return replace(cluster, pools=(one,))


def patient(cluster: ClusterSpec) -> ClusterSpec:
    """With replicas that let everybody wait: baselines have no line of their own."""
    pools = tuple(replace(pool, replica=replace(pool.replica, max_queued=UNLIMITED_QUEUE)) for pool in cluster.pools)
    return replace(cluster, pools=pools)


def pooled_cluster(
    spec: ReplicaSpec, limits: Sequence[int], replicas: Sequence[int], *, gateway: GatewaySpec
) -> ClusterSpec:
    """Pools by context limit, shortest first, of equal replicas."""
    return ClusterSpec(
        pools=tuple(
            PoolSpec(name=PoolName(f"upto-{_thousands(limit)}"), context_tokens=limit, replica=spec, replicas=count)
            for limit, count in zip(limits, replicas, strict=True)
        ),
        gateway=gateway,
    )


def scaled(cluster: ClusterSpec, *, most: int, level: ServiceLevel, startup_s: float) -> ClusterSpec:
    """The same pools, each with one replica or more and up to `most`, beginning with what they have."""
    pools = tuple(
        replace(pool, startup_s=startup_s, target=Target(min_replicas=1, max_replicas=most, level=level))
        for pool in cluster.pools
    )
    return replace(cluster, pools=pools, autoscale_every_s=AUTOSCALE_EVERY_S)


def layout_name(cluster: ClusterSpec) -> str:
    """A layout in a few characters: `1x8k+7x256k`."""
    return "+".join(f"{pool.replicas}x{_thousands(pool.context_tokens)}" for pool in cluster.pools)


def _thousands(tokens: int) -> str:
    return f"{tokens / 1024:g}k"
