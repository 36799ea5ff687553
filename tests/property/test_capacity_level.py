"""Replicas for a service level: more load never needs fewer, more replicas never do worse, the answer is the least."""

from __future__ import annotations

from math import inf, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.level import (
    KV_MAX,
    MET_RATIO,
    USE_MAX,
    Limit,
    Sufficient,
    Unreachable,
    allowed_s,
    met_ratio,
    replicas_for,
)
from cluster.core.capacity.load import OfferedLoad, ReplicaSpec, RequestClass, outcome, own_prefill_s, prefill_s
from cluster.core.capacity.step import StepCost, prefill_pairs

costs = st.builds(
    StepCost,
    base_s=st.floats(1e-4, 0.02),
    weights_s=st.floats(1e-4, 0.05),
    token_s=st.floats(1e-6, 1e-3),
    attention_s=st.floats(0, 1e-8),
    context_token_s=st.floats(0, 1e-6),
)
specs = st.builds(
    ReplicaSpec,
    cost=costs,
    kv_tokens=st.integers(10_000, 4_000_000),
    max_running=st.integers(1, 128),
    batch_tokens=st.sampled_from([512, 1_024, 8_192]),
)
sizes = st.lists(st.tuples(st.integers(1, 200_000), st.integers(1, 4_000), st.integers(1, 100)), min_size=1, max_size=8)


@st.composite
def loads(draw: st.DrawFn) -> OfferedLoad:
    drawn = draw(sizes)
    total = sum(weight for _, _, weight in drawn)
    return OfferedLoad(
        requests_per_s=draw(st.floats(0.001, 50.0)),
        classes=tuple(
            RequestClass(prompt_tokens=prompt, output_tokens=output, share=weight / total)
            for prompt, output, weight in drawn
        ),
        arrival_cv2=draw(st.floats(0.5, 20.0)),
        cached_ratio=draw(st.floats(0, 0.95)),
    )


levels = st.builds(
    ServiceLevel,
    ttft_s=st.floats(0.1, 20),
    ttft_s_per_1k_tokens=st.floats(0, 2),
    itl_s=st.floats(0.01, 1),
)


@given(loads(), specs, levels)
def test_the_answer_meets_the_level_and_one_fewer_does_not(
    load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel
) -> None:
    found = replicas_for(load, spec, level)
    if isinstance(found, Unreachable):
        assert found.why
        return
    assert _meets(load, spec, level, found.replicas)
    assert (found.limit is Limit.NONE) == (found.replicas == 1)
    if found.replicas > 1:
        assert not _meets(load, spec, level, found.replicas - 1)


@given(loads(), specs, levels, st.floats(1.0, 4.0))
def test_more_load_never_needs_fewer(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel, more: float) -> None:
    first = replicas_for(load, spec, level)
    busier = OfferedLoad(
        requests_per_s=load.requests_per_s * more,
        classes=load.classes,
        arrival_cv2=load.arrival_cv2,
        cached_ratio=load.cached_ratio,
    )
    second = replicas_for(busier, spec, level)
    if isinstance(first, Unreachable):
        assert isinstance(second, Unreachable)
    elif isinstance(second, Sufficient):
        assert second.replicas >= first.replicas


@given(loads(), specs, st.integers(1, 200))
def test_more_replicas_never_do_worse(load: OfferedLoad, spec: ReplicaSpec, replicas: int) -> None:
    few, many = outcome(load, spec, replicas), outcome(load, spec, replicas + 1)
    assert many.use_ratio <= few.use_ratio
    assert many.itl_s <= few.itl_s
    assert many.running <= few.running
    assert many.waiting.share <= few.waiting.share + 1e-9
    assert many.waiting.mean_s <= few.waiting.mean_s * (1 + 1e-9)


@given(loads(), specs)
def test_the_batch_is_what_the_step_makes_of_it(load: OfferedLoad, spec: ReplicaSpec) -> None:
    """Little's law and the step's cost agree, but for what stands still behind others."""
    found = outcome(load, spec, 1)
    if found.itl_s == inf:
        return
    tokens_per_s = load.requests_per_s * load.output_tokens
    assert isclose(found.running, tokens_per_s * found.itl_s, rel_tol=1e-9)
    behind = load.requests_per_s * found.waiting.share * found.waiting.mean_s
    own_s = sum(one.share * own_prefill_s(spec, load, one.prompt_tokens) for one in load.classes)
    stalled_s = behind * own_s / (1 - found.prefill_ratio) / load.output_tokens
    moving_s = found.itl_s - stalled_s
    cost, met = spec.cost, tokens_per_s * moving_s + 1
    step_s = cost.base_s + max(cost.weights_s, met * cost.token_s) + met * load.held_tokens * cost.context_token_s
    assert isclose(step_s, moving_s * (1 - found.prefill_ratio), rel_tol=1e-6)


@given(costs, st.integers(1, 300_000), st.sampled_from([256, 1_024, 8_192]))
def test_prefill_is_the_sum_of_its_steps(cost: StepCost, tokens: int, batch: int) -> None:
    begins = range(0, tokens, batch)
    steps_s = sum(
        cost.step_s(
            prefill_tokens=min(batch, tokens - begin),
            attended_tokens=prefill_pairs(begin, min(begin + batch, tokens)),
            decoding=0,
            context_tokens=0,
        )
        for begin in begins
    )
    assert prefill_s(cost, begin_tokens=0, end_tokens=tokens, batch_tokens=batch) == pytest.approx(steps_s)


@given(loads(), st.integers(1, 300_000))
def test_parts_by_length_are_the_whole(load: OfferedLoad, boundary: int) -> None:
    short, long = load.between(0, boundary), load.between(boundary, 10**9)
    parts = [part for part in (short, long) if part is not None]
    assert sum(part.requests_per_s for part in parts) == pytest.approx(load.requests_per_s)
    for part in parts:
        assert sum(one.share for one in part.classes) == pytest.approx(1)
    tokens = sum(part.requests_per_s * part.prompt_tokens for part in parts)
    assert tokens == pytest.approx(load.requests_per_s * load.prompt_tokens)


@given(loads(), specs)
def test_what_is_cached_is_not_computed(load: OfferedLoad, spec: ReplicaSpec) -> None:
    for one in load.classes:
        whole_s = prefill_s(spec.cost, begin_tokens=0, end_tokens=one.prompt_tokens, batch_tokens=spec.batch_tokens)
        assert 0 < own_prefill_s(spec, load, one.prompt_tokens) <= whole_s * (1 + 1e-9)


def test_what_no_replica_can_do_is_said() -> None:
    cost = StepCost(base_s=0.01, weights_s=0.2, token_s=1e-4, attention_s=1e-8, context_token_s=1e-7)
    spec = ReplicaSpec(cost=cost, kv_tokens=100_000, max_running=8, batch_tokens=8_192)
    load = OfferedLoad(requests_per_s=1, classes=(RequestClass(prompt_tokens=100_000, output_tokens=10, share=1.0),))
    slow = replicas_for(load, spec, ServiceLevel())
    assert isinstance(slow, Unreachable)
    assert "210 ms" in slow.why
    late = replicas_for(load, spec, ServiceLevel(itl_s=1.0))
    assert isinstance(late, Unreachable)
    assert "100,000 tokens alone takes 60.4 s" in late.why


def _meets(load: OfferedLoad, spec: ReplicaSpec, level: ServiceLevel, replicas: int) -> bool:
    """Written out once more, by its words."""
    found = outcome(load, spec, replicas)
    bands: dict[int, tuple[float, float]] = {}
    for one in load.classes:
        own_s = own_prefill_s(spec, load, one.prompt_tokens) * found.slowdown + found.itl_s
        room_s = allowed_s(level, one.prompt_tokens) - own_s if own_s < inf else -1.0
        band = next(place for place in range(12, 40) if one.prompt_tokens <= 2**place)
        every, late = bands.get(band, (0.0, 0.0))
        bands[band] = every + one.share, late + one.share * found.waiting.over(room_s)
    met = 1 - max(late / every for every, late in bands.values())
    assert met == pytest.approx(met_ratio(load, spec, level, found), abs=1e-9)
    return (
        found.use_ratio <= USE_MAX
        and found.itl_s <= level.itl_s
        and found.kv_ratio <= KV_MAX
        and found.running <= spec.max_running
        and met_ratio(load, spec, level, found) >= MET_RATIO
    )
