"""Which pools there could be for a trace on so many cards: the layouts that a search tries.

What must not live here: running them (compare.py), judging them (study.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cluster.simulator.baselines import Baseline
from cluster.simulator.cluster import ClusterSpec, GatewaySpec, ReplicaSpec
from cluster.simulator.study.card import LONG_PREFILL_TOKENS
from cluster.simulator.study.system import System, layout_name, patient, pooled_cluster
from cluster.simulator.study.work import Work, boundary

LOADS = (0.7, 0.9, 1.05, 1.2, 1.35)
"""How much of its fair share of the work a smaller pool is given: with less than 1 it is the less loaded one. Work is
reckoned without what batches and caches make of it, so more than 1 is tried as well."""
SMALL_POOL_MAX_SHARE = 0.25
"""Of the cards, those that the smaller pool gets at most; with more, the boundary lies among long prompts."""
SHARED_STEP_TOKENS = 16_384
"""A pool with longer contexts than this bounds the share of a step that one prompt gets; below, prompts are all of few
steps, and a bound makes each of them later."""
RUNNING_MIN, RUNNING_MAX = 8, 128
KV_OVERCOMMIT = 2.0
"""Sequences that a replica is let run, by the mean context of its pool: twice what its KV cache holds of that, so that
KV decides and not the count."""
THREE_POOL_CARDS_MIN = 6
"""Fewer cards cannot be divided in three without one pool being a single card for most of the work."""


def layouts(
    ordered: Sequence[Work], spec: ReplicaSpec, *, gpus: int, context_tokens: int, gateway: GatewaySpec
) -> Iterator[ClusterSpec]:
    """Two pools, and three where there are cards enough, none twice.

    Args:
        ordered: the trace's work, shortest context first (work.py).
        spec: one card's replica; what is set for each pool is how many sequences it runs.
        gpus: cards.
        context_tokens: limit of the largest pool.
        gateway: the same for all.
    """
    seen: set[str] = set()
    for limits, counts in _divisions(ordered, gpus=gpus, context_tokens=context_tokens):
        cluster = tuned(pooled_cluster(spec, limits, counts, gateway=gateway), ordered)
        if layout_name(cluster) not in seen:
            seen.add(layout_name(cluster))
            yield cluster


def pooled_systems(cluster: ClusterSpec, policies: Sequence[str]) -> list[System]:
    """A layout under production's policies."""
    return [
        System(
            name=f"{policy} {layout_name(cluster)}",
            cluster=replace(cluster, gateway=replace(cluster.gateway, policy=policy)),
        )
        for policy in policies
    ]


def static_system(cluster: ClusterSpec) -> System:
    """The same pools with nothing but a boundary."""
    return System(
        name=f"{Baseline.STATIC_POOLS} {layout_name(cluster)}",
        cluster=patient(cluster),
        baseline=Baseline.STATIC_POOLS,
    )


def tuned(cluster: ClusterSpec, ordered: Sequence[Work]) -> ClusterSpec:
    """Each pool's replicas with as many places as its usual requests need, and long prompts in shares of a step."""
    pools = []
    below = 0
    for pool in cluster.pools:
        contexts = [work.context_tokens for work in ordered if below < work.context_tokens <= pool.context_tokens]
        mean = sum(contexts) / len(contexts) if contexts else pool.context_tokens
        running = min(max(int(KV_OVERCOMMIT * pool.replica.kv_tokens / mean), RUNNING_MIN), RUNNING_MAX)
        bound = LONG_PREFILL_TOKENS if pool.context_tokens > SHARED_STEP_TOKENS else 0
        pools.append(replace(pool, replica=replace(pool.replica, max_running=running, long_prefill_tokens=bound)))
        below = pool.context_tokens
    return replace(cluster, pools=tuple(pools))


def _divisions(
    ordered: Sequence[Work], *, gpus: int, context_tokens: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Limits and cards of each pool, shortest first."""
    most = max(int(gpus * SMALL_POOL_MAX_SHARE), 1)
    for small in range(1, min(most, gpus - 1) + 1):
        for load in LOADS:
            limit = boundary(ordered, load * small / gpus)
            if limit < context_tokens:
                yield (limit, context_tokens), (small, gpus - small)
    if gpus < THREE_POOL_CARDS_MIN:
        return
    for large in (1, 2):
        upper = boundary(ordered, 1 - 0.9 * large / gpus)
        for small in (1, 2):
            lower = boundary(ordered, 0.8 * small / gpus)
            if lower < upper < context_tokens:
                yield (lower, upper, context_tokens), (small, gpus - small - large, large)
