"""Rates and quantiles of two pages: within bounds, never negative, the same as Prometheus has them."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.local.top.page import Page
from cluster.local.top.rates import quantile, quantile_of, rate, share

BOUNDS = (0.1, 0.5, 1.0, 5.0, math.inf)
counts = st.lists(st.integers(0, 50), min_size=len(BOUNDS), max_size=len(BOUNDS))
qs = st.floats(0.01, 0.99)


def histogram(per_bucket: list[int]) -> dict[float, float]:
    return dict(zip(BOUNDS, map(float, accumulate(per_bucket)), strict=True))


def page(read_s: float, value: float, per_bucket: list[int]) -> Page:
    buckets = tuple(({"le": str(bound)}, count) for bound, count in histogram(per_bucket).items())
    return Page(read_s=read_s, samples={"requests": (({}, value),), "wait_bucket": buckets})


@given(before=st.floats(0, 1e9), now=st.floats(0, 1e9), seconds=st.floats(0.1, 100))
def test_a_rate_is_never_negative_even_where_the_counter_began_anew(before: float, now: float, seconds: float) -> None:
    told = rate(page(0.0, before, [0] * 5), page(seconds, now, [0] * 5), "requests")
    assert told is not None
    assert 0 <= told <= now / seconds
    if now < before:
        assert told == now / seconds


def test_nothing_is_known_of_no_time_or_no_counter() -> None:
    one = page(1.0, 3.0, [0] * 5)
    assert rate(one, one, "requests") is None
    assert rate(one, page(2.0, 3.0, [0] * 5), "another") is None
    assert rate(Page(read_s=0.0), one, "requests") == 3, "a counter that was not there began at zero"


@given(part=st.none() | st.floats(-1, 1e6), whole=st.none() | st.floats(0, 1e6))
def test_a_share_lies_between_0_and_1(part: float | None, whole: float | None) -> None:
    found = share(part, whole)
    assert (found is None) == (part is None or not whole)
    assert found is None or 0 <= found <= 1


@given(per_bucket=counts, q=qs)
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(per_bucket: list[int], q: float) -> None:
    total = sum(per_bucket)
    found = quantile_of(histogram(per_bucket), q)
    if not total:
        assert found is None
        return
    assert found is not None
    held = next(index for index, count in enumerate(accumulate(per_bucket)) if count >= q * total and count)
    lower = 0.0 if held == 0 else BOUNDS[held - 1]
    upper = lower if math.isinf(BOUNDS[held]) else BOUNDS[held]
    assert lower <= found <= upper


@given(per_bucket=counts, low=qs, high=qs)
def test_a_higher_quantile_is_no_shorter(per_bucket: list[int], low: float, high: float) -> None:
    low, high = sorted((low, high))
    first, second = (quantile_of(histogram(per_bucket), q) for q in (low, high))
    assert first is None or second is None or first <= second


@given(earlier=counts, grown=counts, q=qs)
def test_only_what_was_observed_in_between_counts(earlier: list[int], grown: list[int], q: float) -> None:
    later = [a + b for a, b in zip(earlier, grown, strict=True)]
    found = quantile(page(0.0, 0.0, earlier), page(1.0, 0.0, later), "wait", q)
    assert found == quantile_of(histogram(grown), q)


def test_a_histogram_that_began_anew_counts_from_zero() -> None:
    before, now = page(0.0, 0.0, [9, 9, 9, 9, 9]), page(1.0, 0.0, [0, 4, 0, 0, 0])
    assert quantile(before, now, "wait", 0.5) == quantile_of(histogram([0, 4, 0, 0, 0]), 0.5)


def test_as_prometheus_interpolates() -> None:
    """histogram_quantile(0.5, …) of 10 observations up to 0.1 and 10 up to 0.5: 0.1; 0.75: halfway to 0.5."""
    buckets = histogram([10, 10, 0, 0, 0])
    assert quantile_of(buckets, 0.5) == 0.1
    assert quantile_of(buckets, 0.75) == pytest.approx(0.3)
    assert quantile_of(histogram([0, 0, 0, 0, 3]), 0.5) == 5.0
    assert quantile_of({0.1: 3.0}, 0.5) is None, "without a last bucket the count is not known"
