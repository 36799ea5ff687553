"""What holds for every generated trace."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.simulator.traces import Bursts, Tail, builtin_fits, generate, with_tail
from cluster.simulator.traces.burst import VARIANCE_MAX, draw_arrivals, fit_bursts
from cluster.simulator.traces.fit import quantile, quantiles_of

VARIANCES = st.one_of(st.just(0.0), st.floats(0.001, VARIANCE_MAX))


@given(
    name=st.sampled_from(sorted(builtin_fits())),
    requests=st.integers(1, 120),
    rate=st.floats(0.01, 1000.0),
    seed=st.integers(0, 2**32),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_requests_come_in_order_with_whole_lengths(
    name: str, requests: int, rate: float, seed: int, share: float
) -> None:
    fit = builtin_fits()[name]
    trace = with_tail(generate(fit, requests=requests, seed=seed, requests_per_s=rate), Tail(share=share), seed=seed)
    assert len(trace.requests) >= requests
    assert all(one.arrival_s <= two.arrival_s for one, two in pairwise(trace.requests))
    assert all(request.prompt_tokens >= 1 and request.output_tokens >= 1 for request in trace.requests)
    assert all(len(request.blocks) in {0, -(-request.prompt_tokens // 512)} for request in trace.requests)


@given(count=st.integers(1, 500), rate=st.floats(0.01, 100), long=VARIANCES, short=VARIANCES, seed=st.integers(0, 999))
@settings(max_examples=100, deadline=None)
def test_so_many_arrivals_as_asked_within_their_time(
    count: int, rate: float, long: float, short: float, seed: int
) -> None:
    bursts = Bursts(long_variance=long, short_variance=short)
    arrivals = draw_arrivals(count, rate=rate, bursts=bursts, rng=random.Random(seed))
    assert len(arrivals) == count
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] <= count / rate * (1 + 1e-9)
    fitted = fit_bursts(arrivals)
    assert 0 <= fitted.long_variance <= VARIANCE_MAX
    assert 0 <= fitted.short_variance <= VARIANCE_MAX


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_stay_within_the_values(values: list[float], one: float, other: float) -> None:
    quantiles = quantiles_of(values)
    low, high = sorted((one, other))
    assert quantile(quantiles, low) <= quantile(quantiles, high) + 1e-6
    assert min(values) - 1e-3 <= quantile(quantiles, low)
    assert quantile(quantiles, high) <= max(values) + 1e-3
