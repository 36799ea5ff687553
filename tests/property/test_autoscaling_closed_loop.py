"""The policy in a closed loop with a fluid pool: the service level, and what it costs over knowing the future.

The oracle knows the rate at every moment, orders what the policy's own sums say for it a start-up time ahead, and lets
go at once, save where the gap is shorter than a start. Figures in docs/autoscaling.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import pytest

from cluster.core.autoscaling import Arrivals, PoolAutoscaler, PoolDemand, PoolSpeed, ServiceLevel, Target
from cluster.core.autoscaling.mix import Mix
from cluster.core.autoscaling.need import Outlook, needs
from cluster.core.autoscaling.traffic import Forecast
from cluster.core.lease import PoolName
from tests.fluid_pool import KV_TOKENS, MAX_RUNNING, MEAN_OUTPUT_TOKENS, MEAN_PROMPT_TOKENS, Run, poisson, run

LEVEL = ServiceLevel()
STARTUP_S = 60
SPEED = PoolSpeed(
    prefill_tokens_per_s=4_850,
    decode_tokens_per_s=1_700,
    decode_sequences=30,
    kv_tokens=KV_TOKENS,
    max_running=MAX_RUNNING,
    decode_alone_s=0.0145,
)


class Shape(NamedTuple):
    """Requests a second over time, and what the policy may cost."""

    rate: Callable[[float], float]
    until_s: int
    most: float
    extra_ratio: float
    """Replica-seconds over the oracle's, at most."""
    late_ratio: float = 0.05
    """Late first tokens, at most."""
    slow_ratio: float = 0.05
    """Answers whose tokens came too slowly, at most."""


SHAPES = {
    "constant": Shape(lambda _: 12.0, 900, 12.0, extra_ratio=0.15),
    "quiet": Shape(lambda _: 1.0, 900, 1.0, extra_ratio=0.02),
    "ramp": Shape(lambda at_s: 4 + 20 * min(max(at_s - 100, 0) / 500, 1), 900, 24.0, extra_ratio=0.15),
    # Nobody can serve in time what is ordered when it comes: late is what comes within two start-up times.
    "step": Shape(lambda at_s: 4.0 if at_s < 200 else 20.0, 900, 20.0, 0.15, late_ratio=0.16, slow_ratio=0.16),
    "burst": Shape(lambda at_s: 20.0 if 300 < at_s < 360 else 4.0, 900, 20.0, 0.25, late_ratio=0.3, slow_ratio=0.25),
    "sine": Shape(lambda at_s: 12 - 8 * math.cos(at_s / 900 * 2 * math.pi), 1_800, 20.0, extra_ratio=0.2),
}


def replicas_for(requests_per_s: float) -> int:
    mix, empty = Mix(), PoolDemand(pool=PoolName("pool"), now_s=0.0, ready=1)
    seen = Arrivals(requests=1, prefill_tokens=MEAN_PROMPT_TOKENS, answers=1, output_tokens=MEAN_OUTPUT_TOKENS)
    mix.add(empty)
    mix.add(replace(empty, arrivals=seen))
    outlook = Outlook(
        demand=empty,
        level=LEVEL,
        speed=SPEED,
        forecast=Forecast(requests_per_s, requests_per_s),
        mix=mix,
        horizon_s=STARTUP_S,
        arriving_s=[0.0] * 100,
    )
    return max(math.ceil(max(need.ahead for need in needs(outlook)) - 1e-6), 1)


@cache
def oracle(name: str) -> list[int]:
    """What to have ordered at each second."""
    shape = SHAPES[name]
    needed = [replicas_for(shape.rate(float(second))) for second in range(shape.until_s + STARTUP_S + 1)]
    kept = list(needed)
    for level in range(1, max(needed) + 1):
        seconds = [second for second, replicas in enumerate(needed) if replicas >= level]
        for before, after in pairwise(seconds):
            if after - before <= STARTUP_S:
                kept[before:after] = [max(level, replicas) for replicas in kept[before:after]]
    return [max(kept[second : second + STARTUP_S + 1]) for second in range(shape.until_s + 1)]


@cache
def served(name: str, *, by_policy: bool, seed: int = 1) -> Run:
    shape, plan = SHAPES[name], oracle(name)
    policy = PoolAutoscaler(Target(min_replicas=1, max_replicas=100, level=LEVEL))

    def size(demand: PoolDemand) -> int:
        return policy.decide(demand).replicas if by_policy else plan[int(demand.now_s)]

    requests = poisson(shape.rate, shape.until_s, seed=seed, most=shape.most)
    return run(requests, size, until_s=shape.until_s, startup_s=STARTUP_S, ready=plan[0])


@pytest.mark.parametrize("name", SHAPES)
def test_the_level_is_kept_at_a_bounded_cost(name: str) -> None:
    shape, plan = SHAPES[name], oracle(name)
    found = served(name, by_policy=True)
    late, slow = found.late_ratio(LEVEL), found.slow_ratio(LEVEL)
    extra = found.replica_s / sum(plan[:-1]) - 1
    assert late <= shape.late_ratio
    assert slow <= shape.slow_ratio
    assert extra <= shape.extra_ratio
    assert max(found.sizes) <= 2 * max(plan)


@pytest.mark.parametrize("name", ["step"])
def test_the_oracle_keeps_the_level(name: str) -> None:
    found = served(name, by_policy=False)
    assert found.late_ratio(LEVEL) <= 0.05
    assert found.slow_ratio(LEVEL) <= 0.05


def test_after_a_step_the_level_is_kept_again_within_three_starts() -> None:
    found = served("step", by_policy=True)
    assert found.late_ratio(LEVEL, since_s=200 + 3 * STARTUP_S) <= 0.05


def test_few_and_long_prompts_make_no_pool_swing() -> None:
    policy = PoolAutoscaler(Target(min_replicas=1, max_replicas=100, level=LEVEL))
    # 27,000 tokens on average, six seconds each, one every 12 s: half a replica's work.
    requests = poisson(lambda _: 0.08, 1_200, seed=1, most=0.08, mean_log_tokens=9.7)
    found = run(requests, lambda demand: policy.decide(demand).replicas, until_s=1_200, startup_s=STARTUP_S)
    assert found.late_ratio(LEVEL) <= 0.05
    assert max(found.sizes) <= 5
    assert found.turns <= 8
