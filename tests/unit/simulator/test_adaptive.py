"""The production router with a boundary that follows, in small whole simulations."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.step import StepCost
from cluster.simulator.adaptive import AdaptiveRouter
from cluster.simulator.cluster import ClusterSpec, GatewaySpec, ReplicaSpec
from cluster.simulator.outcome import Fate, Result
from cluster.simulator.simulate import simulate
from cluster.simulator.study.system import pooled_cluster
from cluster.simulator.trace import Trace
from cluster.simulator.traces import builtin_fits, generate

COST = StepCost(base_s=0.002, weights_s=0.003, token_s=1.5e-5, attention_s=1.5e-9, context_token_s=6e-8)
SPEC = ReplicaSpec(cost=COST, kv_tokens=400_000, batch_tokens=2048)
LEVEL = ServiceLevel()


def cluster(limit_tokens: int) -> ClusterSpec:
    return pooled_cluster(SPEC, (limit_tokens, 262_144), (1, 3), gateway=GatewaySpec(queue_s=600.0))


def trace() -> Trace:
    return generate(builtin_fits()["mooncake-conversation"], requests=900, seed=3, requests_per_s=4.0)


def mean_ttft_s(result: Result) -> float:
    waits = [record.ttft_s for record in result.outcomes if record.fate is Fate.DONE]
    assert len(waits) == len(result.outcomes)
    return sum(waits) / len(waits)


def test_a_boundary_that_is_too_high_comes_down_and_waits_get_shorter() -> None:
    high = cluster(65_536)
    router = AdaptiveRouter(high, level=LEVEL)
    adaptive = simulate(trace(), high, router=router, seed=1)
    fixed = simulate(trace(), high, seed=1)
    tokens = [boundary.tokens for _, _, boundary in router.moves]
    assert tokens[0] == 65_536
    assert min(tokens) < 40_000
    assert mean_ttft_s(adaptive) < mean_ttft_s(fixed)


def test_a_boundary_that_is_right_is_left_alone_under_load() -> None:
    """A token takes its part of a full batch; by batches as they were, pools would seem to be full at any load."""
    right = cluster(12_288)
    router = AdaptiveRouter(right, level=LEVEL)
    busy = generate(builtin_fits()["mooncake-conversation"], requests=1_500, seed=3, requests_per_s=5.0)
    simulate(busy, right, router=router, seed=1)
    assert {boundary.tokens for _, _, boundary in router.moves} == {12_288}


def test_moves_are_bounded_and_stay_within_what_the_pool_takes() -> None:
    high = cluster(65_536)
    router = AdaptiveRouter(high, level=LEVEL)
    simulate(trace(), high, router=router, seed=2)
    moves = [(at_s, boundary.tokens) for at_s, _, boundary in router.moves]
    assert all(2_048 <= tokens <= 65_536 for _, tokens in moves)
    for (before_s, before), (at_s, tokens) in pairwise(moves[1:]):
        assert at_s - before_s >= 60
        assert 1 / 1.5 <= tokens / before <= 1.5


def test_the_same_seed_moves_the_same_way() -> None:
    runs = []
    for _ in range(2):
        high = cluster(32_768)
        router = AdaptiveRouter(high, level=LEVEL)
        simulate(trace(), high, router=router, seed=5)
        runs.append(router.moves)
    assert runs[0] == runs[1]


def test_one_pool_has_no_boundary() -> None:
    with pytest.raises(ValueError, match="no boundary"):
        AdaptiveRouter(ClusterSpec(pools=cluster(8_192).pools[1:]), level=LEVEL)
