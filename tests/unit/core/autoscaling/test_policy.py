"""The policy, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.autoscaling import Arrivals, Bound, PoolAutoscaler, PoolDemand, PoolSpeed, Target
from cluster.core.lease import PoolName

SPEED = PoolSpeed(
    prefill_tokens_per_s=9_000, decode_tokens_per_s=1_000, decode_sequences=20, kv_tokens=200_000, max_running=64
)
IDLE = PoolDemand(pool=PoolName("short"), now_s=0.0, ready=1, speed=SPEED, startup_s=60.0)
ONE_TO_EIGHT = Target(min_replicas=1, max_replicas=8)
FROM_ZERO = Target(min_replicas=0, max_replicas=8)


def steady(policy: PoolAutoscaler, demand: PoolDemand, seconds: int, requests_per_s: int, prompt_tokens: int) -> None:
    """So many seconds of the same traffic from `demand` on, seen each second."""
    for second in range(seconds):
        policy.decide(later(demand, second, requests_per_s, prompt_tokens))


def later(demand: PoolDemand, seconds: int, requests_per_s: int, prompt_tokens: int) -> PoolDemand:
    begun = demand.arrivals
    requests = requests_per_s * seconds
    arrivals = Arrivals(
        requests=begun.requests + requests, prefill_tokens=begun.prefill_tokens + requests * prompt_tokens
    )
    return replace(demand, now_s=demand.now_s + seconds, arrivals=arrivals)


def test_nothing_known_keeps_what_there_is() -> None:
    decision = PoolAutoscaler(ONE_TO_EIGHT).decide(replace(IDLE, ready=3, speed=None))
    assert (decision.replicas, decision.bound) == (3, Bound.UNKNOWN)


def test_a_held_request_starts_an_empty_pool() -> None:
    decision = PoolAutoscaler(FROM_ZERO).decide(replace(IDLE, ready=0, held=1, speed=None))
    assert (decision.replicas, decision.bound) == (1, Bound.HELD)


def test_what_comes_is_followed_in_one_step() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    steady(policy, IDLE, 1, 20, 1_000)
    first = policy.decide(later(IDLE, 1, 20, 1_000))
    # 20,000 / 9,000 for what comes, and 11,000 / 9,000 for what one replica leaves until the others serve.
    assert (first.replicas, first.bound) == (4, Bound.PREFILL)
    assert "660,000 would wait in 60 s, 20,000 tokens/s come, a replica does 9,000/s: 4" in first.reason
    for second in range(2, 30):
        decision = policy.decide(replace(later(IDLE, second, 20, 1_000), starting=3))
        assert (decision.replicas, decision.current) == (4, 4)


@pytest.mark.parametrize("pinned", [0, 5, 12])
def test_a_pin_wins_over_everything(pinned: int) -> None:
    decision = PoolAutoscaler(replace(ONE_TO_EIGHT, pinned=pinned)).decide(replace(IDLE, held=4))
    assert (decision.replicas, decision.bound) == (pinned, Bound.PINNED)
