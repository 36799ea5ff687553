"""Paired outcomes: the interval and the test of their difference."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.quality.paired import Pairs, chance, difference_interval, pairs_of

COUNTS = st.integers(0, 40)


def pairs(both: int, only_first: int, only_second: int, neither: int) -> Pairs:
    return Pairs(both=both, only_first=only_first, only_second=only_second, neither=neither)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_turns_with_it(both: int, one: int, other: int, neither: int) -> None:
    found = pairs(both, one, other, neither)
    if not found.count:
        return
    low, high = difference_interval(found)
    assert -1 - 1e-9 <= low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= high <= 1 + 1e-9
    turned = difference_interval(pairs(both, other, one, neither))
    assert turned == pytest.approx((-high, -low))


@given(COUNTS, COUNTS)
def test_the_chance_is_one_of_fair_coins(one: int, other: int) -> None:
    found = chance(pairs(3, one, other, 5))
    assert 0 < found <= 1
    assert found == chance(pairs(0, other, one, 0))
    if one == other:
        assert found == 1
    elif one + other > 1:
        # One more on the side that has more is less likely.
        more = pairs(0, one + (one > other), other + (other > one), 0)
        assert chance(more) <= found


def test_known_figures() -> None:
    # Bentur and others (2009), as worked out in Fagerland, Lydersen, Laake, Statistics in Medicine 33 (2014): of 21
    # pairs 1 and 7 differ; p of the exact test 0.0703, square-and-add interval 0.026 to 0.507.
    found = pairs(1, 1, 7, 12)
    assert chance(found) == pytest.approx(0.0703, abs=1e-4)
    low, high = difference_interval(found)
    assert (low, high) == pytest.approx((0.026, 0.507), abs=1e-3)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = random.Random(1)
    shares = (0.6, 0.15, 0.05, 0.2)
    truth = shares[2] - shares[1]
    covered = 0
    for _ in range(1_000):
        drawn = rng.choices([(True, True), (True, False), (False, True), (False, False)], shares, k=60)
        low, high = difference_interval(pairs_of(drawn))
        covered += low <= truth <= high
    # 95% of 1,000, give or take three standard deviations of 7, and the method's own few tenths of a percent.
    assert 925 <= covered <= 980
