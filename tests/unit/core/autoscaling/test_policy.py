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


def test_a_first_replica_is_not_taken_back_before_it_serves() -> None:
    """Its request was refused, because the start takes longer than it could wait: it comes again when told."""
    policy = PoolAutoscaler(replace(FROM_ZERO, idle_s=5))
    empty = replace(IDLE, ready=0, speed=None, startup_s=60.0)
    policy.decide(empty)
    asked = replace(empty, now_s=empty.now_s + 1, arrivals=Arrivals(requests=1, prefill_tokens=100))
    assert policy.decide(asked).replicas == 1
    starting = replace(asked, starting=1)
    assert policy.decide(replace(starting, now_s=asked.now_s + 59)).replicas == 1
    served = replace(asked, ready=1)
    assert policy.decide(replace(served, now_s=asked.now_s + 61)).replicas == 1
    assert policy.decide(replace(served, now_s=asked.now_s + 67)).bound is Bound.IDLE
    # One that never comes is given up after the time that it should have taken.
    assert policy.decide(replace(starting, now_s=asked.now_s + 140)).bound is Bound.IDLE


def test_a_request_that_a_larger_pool_serves_starts_an_empty_pool_once() -> None:
    policy, empty = PoolAutoscaler(FROM_ZERO), replace(IDLE, ready=0, speed=None)
    assert policy.decide(empty).replicas == 0
    asked = replace(empty, now_s=empty.now_s + 1, arrivals=Arrivals(requests=1, prefill_tokens=100))
    decision = policy.decide(asked)
    assert (decision.replicas, decision.bound) == (1, Bound.HELD)
    assert "asked" in decision.reason
    assert policy.decide(replace(asked, now_s=asked.now_s + 1, starting=1)).replicas == 1


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


def test_a_light_load_that_was_measured_slow_orders_nothing() -> None:
    # One short prompt and one sequence at a time, nine tenths of the time: that is no pool that is full.
    light = PoolSpeed(
        prefill_tokens_per_s=1_100,
        decode_tokens_per_s=50,
        decode_sequences=1,
        kv_tokens=200_000,
        max_running=64,
        prefill_is_floor=True,
    )
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    for second in range(600):
        demand = later(IDLE, second, 10, 100)
        assert policy.decide(replace(demand, speed=light, running=1)).replicas == 1


def test_a_queue_doubles_at_most_what_was_only_measured_light() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    floor = replace(SPEED, prefill_tokens_per_s=500, prefill_is_floor=True)
    steady(policy, replace(IDLE, speed=floor), 10, 20, 1_000)
    demand = replace(later(IDLE, 10, 20, 1_000), speed=floor, ready=2, waiting=50, prefill_tokens=60_000)
    assert policy.decide(demand).replicas == 4


def test_more_than_allowed_says_so() -> None:
    policy = PoolAutoscaler(replace(ONE_TO_EIGHT, max_replicas=2))
    steady(policy, IDLE, 10, 40, 1_000)
    decision = policy.decide(later(IDLE, 10, 40, 1_000))
    assert (decision.replicas, decision.bound) == (2, Bound.MAX)
    assert decision.reason.endswith("at most 2 are allowed")


def test_the_last_replica_goes_after_an_idle_time() -> None:
    policy = PoolAutoscaler(FROM_ZERO)
    steady(policy, IDLE, 20, 1, 100)
    quiet = later(IDLE, 19, 1, 100)
    kept = policy.decide(replace(quiet, now_s=19 + FROM_ZERO.idle_s - 1))
    assert (kept.replicas, kept.bound) == (1, Bound.HYSTERESIS)
    gone = policy.decide(replace(quiet, now_s=19 + FROM_ZERO.idle_s))
    assert (gone.replicas, gone.bound) == (0, Bound.IDLE)


def test_a_step_down_waits_for_the_window_and_for_a_warm_cache() -> None:
    def seconds_to_fewer(resident_tokens: int) -> int:
        policy = PoolAutoscaler(ONE_TO_EIGHT)
        for second in range(600):
            demand = later(replace(IDLE, ready=3, resident_tokens=resident_tokens), second, 1, 500)
            arrivals = replace(demand.arrivals, cached_tokens=demand.arrivals.prefill_tokens)
            if policy.decide(replace(demand, arrivals=arrivals)).replicas < 3:
                return second
        raise AssertionError("none went")

    assert seconds_to_fewer(0) == 60
    # Half of what is read was cached: 900,000 / 2 / 9,000 per second are 50 s of computing.
    assert seconds_to_fewer(900_000) == pytest.approx(110, abs=1)


def test_an_old_queue_orders_replicas_though_no_speed_is_known() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    waiting = replace(IDLE, ready=2, waiting=9, speed=None, oldest_wait_s=15.0)
    decision = policy.decide(replace(waiting, now_s=100.0))
    assert (decision.replicas, decision.bound) == (3, Bound.QUEUE_AGE)


def test_a_queue_that_no_replica_shortens_does_not_double_the_pool_without_end() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    found = []
    for minute in range(20):
        demand = replace(later(IDLE, 60 * minute, 1, 500), ready=max(found[-1:] or [2]), waiting=1, oldest_wait_s=30.0)
        found.append(policy.decide(demand).replicas)
    assert max(found) == 2


def test_a_replica_that_just_came_is_given_time_for_an_old_queue() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    waiting = replace(IDLE, ready=2, waiting=9, speed=None, oldest_wait_s=15.0)
    policy.decide(replace(waiting, now_s=100.0, ready=1, oldest_wait_s=0.0))
    assert policy.decide(replace(waiting, now_s=110.0)).replicas == 2
    assert policy.decide(replace(waiting, now_s=126.0)).replicas == 3


def test_slow_tokens_order_replicas() -> None:
    # A step takes 20 ms alone and 2 ms more for each further sequence: at most 100 ms are promised.
    slow = replace(SPEED, decode_tokens_per_s=20 / 0.058, decode_sequences=20, decode_alone_s=0.02)
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    for second in range(30):
        demand = replace(later(IDLE, second, 5, 200), speed=slow, running=20, ready=1)
        arrivals = replace(demand.arrivals, answers=demand.arrivals.requests, output_tokens=100 * 5 * second)
        decision = policy.decide(replace(demand, arrivals=arrivals))
    # u = 5 x 200 / 9,000, o b = 500 x 0.002, of the time 0.082 / (0.082 + 2.5 x 0.018) may be used.
    assert decision.needed_now == pytest.approx((0.111 + 1.0) / (0.082 / 0.127), rel=0.01)
    assert (decision.replicas, decision.bound) == (2, Bound.DECODE)


def test_where_one_sequence_is_too_slow_no_replica_is_ordered_for_it() -> None:
    crawling = replace(SPEED, decode_tokens_per_s=4, decode_sequences=1)
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    for second in range(30):
        decision = policy.decide(replace(later(IDLE, second, 1, 100), speed=crawling, running=1))
    assert decision.replicas == 1


def test_a_full_kv_cache_orders_replicas() -> None:
    policy = PoolAutoscaler(ONE_TO_EIGHT)
    for second in range(60):
        demand = replace(later(IDLE, second, 1, 400), ready=2, running=12, kv_use_ratio=0.95)
        arrivals = replace(demand.arrivals, answers=second, output_tokens=500 * second)
        decision = policy.decide(replace(demand, arrivals=arrivals))
    # 10 sequences on average, 15 in one moment of twenty, and 5.7 fill a replica.
    assert (decision.replicas, decision.bound) == (3, Bound.KV)
    assert "a replica holds 5.7 (its KV cache is 90% full then): 3" in decision.reason
