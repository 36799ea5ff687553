"""What holds of the policy whatever happens."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from cluster.core.autoscaling import (
    Arrivals,
    Bound,
    Decision,
    PoolAutoscaler,
    PoolDemand,
    PoolSpeed,
    SpeedCounters,
    SpeedMeter,
    Target,
)
from cluster.core.autoscaling.hysteresis import PATIENCE_MAX
from cluster.core.autoscaling.traffic import GROWTH_MAX_RATIO, Traffic
from cluster.core.lease import PoolName, ReplicaId

POOL = PoolName("pool")
STARTUP_S = 60.0

speeds = st.builds(
    PoolSpeed,
    prefill_tokens_per_s=st.floats(100, 1e5),
    decode_tokens_per_s=st.floats(5, 1e4),
    decode_sequences=st.floats(1, 200),
    kv_tokens=st.integers(0, 10**6),
    max_running=st.sampled_from([0, 1, 8, 256]),
    prefill_is_floor=st.booleans(),
    decode_alone_s=st.none() | st.floats(0.001, 0.2),
)
targets = st.builds(
    lambda least, more, pinned: Target(min_replicas=least, max_replicas=least + more, pinned=pinned),
    st.integers(0, 4),
    st.integers(1, 40),
    st.none() | st.integers(0, 60),
)
moments = st.fixed_dictionaries(
    {
        "later_s": st.floats(0, 40),
        "ready": st.integers(0, 20),
        "starting": st.integers(0, 5),
        "running": st.integers(0, 300),
        "waiting": st.integers(0, 300),
        "held": st.integers(0, 50),
        "oldest_wait_s": st.floats(0, 100),
        "prefill_tokens": st.integers(0, 10**6),
        "resident_tokens": st.integers(0, 10**6),
        "kv_use_ratio": st.floats(0, 1),
        "requests": st.integers(0, 500),
        "prompt": st.integers(0, 10_000),
        "output": st.integers(0, 1_000),
        "speed": st.none() | speeds,
        "startup_s": st.none() | st.floats(0, 200),
    }
)
histories = st.lists(moments, min_size=1, max_size=12)


def demands(history: list[dict[str, object]]) -> Iterator[PoolDemand]:
    now_s, arrivals = 0.0, Arrivals()
    for moment in history:
        told = dict(moment)
        now_s += told.pop("later_s")
        requests, prompt, output = told.pop("requests"), told.pop("prompt"), told.pop("output")
        arrivals = Arrivals(
            requests=arrivals.requests + requests,
            prefill_tokens=arrivals.prefill_tokens + requests * prompt,
            answers=arrivals.answers + requests,
            output_tokens=arrivals.output_tokens + requests * output,
            cached_tokens=arrivals.cached_tokens + requests,
        )
        yield PoolDemand(pool=POOL, now_s=now_s, arrivals=arrivals, **told)


def decisions(target: Target, history: list[dict[str, object]]) -> list[Decision]:
    policy = PoolAutoscaler(target)
    return [policy.decide(demand) for demand in demands(history)]


@given(targets, histories)
def test_a_decision_is_within_bounds_and_a_pin_wins(target: Target, history: list[dict[str, object]]) -> None:
    for decision in decisions(target, history):
        if target.pinned is not None:
            assert (decision.replicas, decision.bound) == (target.pinned, Bound.PINNED)
        else:
            assert target.min_replicas <= decision.replicas <= target.max_replicas
        assert math.isfinite(decision.needed_now)
        assert math.isfinite(decision.needed_ahead)
        assert decision.reason.isascii()


@given(targets, histories)
def test_the_same_history_gives_the_same_decisions(target: Target, history: list[dict[str, object]]) -> None:
    assert decisions(target, history) == decisions(target, history)


@given(targets, histories, st.integers(2, 4))
def test_asking_again_at_the_same_instant_changes_nothing(
    target: Target, history: list[dict[str, object]], times: int
) -> None:
    once, often = PoolAutoscaler(target), PoolAutoscaler(target)
    for demand in demands(history):
        expected = once.decide(demand)
        assert [often.decide(demand) for _ in range(times)] == [expected] * times


@given(targets, histories)
def test_a_step_down_leaves_what_the_present_work_needs(target: Target, history: list[dict[str, object]]) -> None:
    for decision in decisions(replace(target, pinned=None), history):
        if decision.replicas < decision.current and decision.bound not in {Bound.MAX, Bound.IDLE}:
            assert decision.replicas >= min(math.ceil(decision.needed_now - 1e-6), target.max_replicas)


@given(
    targets,
    histories,
    st.tuples(st.integers(0, 10**6), st.integers(0, 100), st.integers(0, 100), st.floats(0, 50)),
)
def test_more_work_never_needs_less(
    target: Target, history: list[dict[str, object]], work: tuple[int, int, int, float]
) -> None:
    tokens, waiting, held, older_s = work
    less, more = PoolAutoscaler(target), PoolAutoscaler(target)
    told = list(demands(history))
    for demand in told[:-1]:
        assert less.decide(demand) == more.decide(demand)
    last = told[-1]
    heavier = replace(
        last,
        prefill_tokens=last.prefill_tokens + tokens,
        waiting=last.waiting + waiting,
        held=last.held + held,
        oldest_wait_s=last.oldest_wait_s + older_s,
    )
    light, heavy = less.decide(last), more.decide(heavier)
    assert heavy.needed_now >= light.needed_now - 1e-9
    assert heavy.needed_ahead >= light.needed_ahead - 1e-9
    assert heavy.replicas >= light.replicas


@given(targets, histories)
def test_an_empty_pool_with_held_requests_gets_a_replica_at_once(
    target: Target, history: list[dict[str, object]]
) -> None:
    assume(target.pinned is None)
    policy = PoolAutoscaler(target)
    for demand in demands(history):
        decision = policy.decide(replace(demand, ready=0, starting=0, held=max(demand.held, 1)))
        assert decision.replicas >= 1


@given(st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 1_000)), max_size=80), st.floats(0, 500))
def test_a_forecast_is_at_least_what_comes_and_at_most_twice(counts: list[tuple[float, int]], horizon_s: float) -> None:
    traffic, now_s, total = Traffic(), 0.0, 0
    for later_s, requests in counts:
        now_s, total = now_s + later_s, total + requests
        traffic.add(now_s, total)
        forecast = traffic.forecast(horizon_s)
        assert 0 <= forecast.now <= forecast.ahead <= GROWTH_MAX_RATIO * forecast.now


SMALL = PoolSpeed(
    prefill_tokens_per_s=5_000,
    decode_tokens_per_s=1_500,
    decode_sequences=25,
    kv_tokens=200_000,
    max_running=64,
    decode_alone_s=0.014,
)


def sizes(requests_of: Callable[[int], int], seconds: int, *, begin: int) -> list[int]:
    """What is ordered each second, where replicas serve `STARTUP_S` after their order and keep up."""
    policy = PoolAutoscaler(Target(min_replicas=1, max_replicas=500))
    ordered, found, coming = [begin], list[int](), list[float]()
    requests = 0
    for second in range(seconds):
        requests += requests_of(second)
        coming = [ready_s for ready_s in coming if ready_s > second]
        arrivals = Arrivals(
            requests=requests, prefill_tokens=800 * requests, answers=requests, output_tokens=100 * requests
        )
        demand = PoolDemand(
            pool=POOL,
            now_s=float(second),
            ready=max(ordered[-1] - len(coming), 0),
            starting=len(coming),
            arrivals=arrivals,
            speed=SMALL,
            startup_s=STARTUP_S,
        )
        found.append(policy.decide(demand).replicas)
        coming += [second + STARTUP_S] * (found[-1] - ordered[-1])
        coming = coming[: found[-1]]
        ordered.append(found[-1])
    return found


def turns(found: list[int]) -> int:
    ways = [now > before for before, now in pairwise(found) if now != before]
    return sum(one != other for one, other in pairwise(ways))


@settings(max_examples=10)
@given(st.integers(0, 60), st.integers(1, 20))
def test_constant_load_never_turns(requests_per_s: int, begin: int) -> None:
    assert turns(sizes(lambda _: requests_per_s, 400, begin=begin)) <= 1


@settings(max_examples=3, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.floats(0.05, 60), st.integers(0, 2**32))
def test_noise_turns_seldom(requests_per_s: float, seed: int) -> None:
    rng, seconds = random.Random(seed), 2_400

    def poisson(_: int) -> int:
        count, waited_s = 0, rng.expovariate(requests_per_s)
        while waited_s < 1:
            count, waited_s = count + 1, waited_s + rng.expovariate(requests_per_s)
        return count

    # Each regret doubles the window: up and down once in the longest one, and the regrets before it.
    assert turns(sizes(poisson, seconds, begin=1)) <= 2 * seconds / (PATIENCE_MAX * STARTUP_S) + 6


@settings(max_examples=20)
@given(st.integers(1, 10), st.integers(2, 10))
def test_a_step_is_followed_in_one_step(before: int, times: int) -> None:
    assume(before * (times - 1) >= 20)
    found = sizes(lambda second: before * (times if second >= 100 else 1), 160, begin=2)
    ups = [now for was, now in pairwise(found[98:]) if now > was]
    assert len(ups) == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(0, 5), st.floats(0, 1e5), st.integers(0, 500), st.floats(0, 5)),
        max_size=30,
    ),
    st.floats(1, 64),
)
def test_speeds_are_never_below_nothing(steps: list[tuple[int, float, float, int, float]], batch: float) -> None:
    meter, counters = SpeedMeter(), SpeedCounters()
    for tokens, prefill_s, token_s, output, decode_s in steps:
        counters = SpeedCounters(
            prefill_tokens=counters.prefill_tokens + tokens,
            prefill_busy_s=counters.prefill_busy_s + prefill_s,
            prefill_token_s=counters.prefill_token_s + token_s,
            decode_tokens=counters.decode_tokens + output,
            decode_busy_s=counters.decode_busy_s + decode_s,
            decode_sequence_s=counters.decode_sequence_s + decode_s * batch,
        )
        meter.observe(ReplicaId("one"), counters)
    speed = meter.speed()
    if speed is not None:
        assert speed.prefill_tokens_per_s >= 0
        assert speed.decode_tokens_per_s >= 0
        alone_s = speed.decode_alone_s
        assert alone_s is None or 0 <= alone_s <= speed.decode_sequences / speed.decode_tokens_per_s + 1e-9
