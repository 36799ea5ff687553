"""Retry budget, drain rate and deadlines, on a clock that only counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.core.admission.deadline import BadTimeout, Deadline, read_deadline
from cluster.core.admission.drain_rate import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S, DrainRate
from cluster.core.admission.retry_budget import MIN_RETRIES_PER_S, WINDOW_S, RetryBudget
from cluster.core.lease import PoolName

POOL = PoolName("p")


@given(
    ratio=st.floats(0, 1),
    start_s=st.floats(0, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 15), st.integers(0, 40), st.integers(0, 80)), max_size=25),
)
def test_retries_stay_within_their_share_of_recent_requests(
    ratio: float, start_s: float, steps: list[tuple[float, int, int]]
) -> None:
    budget = RetryBudget()
    now_s = start_s
    requests: list[int] = []
    retries: list[int] = []
    for passed_s, came, wanted in steps:
        now_s += passed_s
        second = int(now_s)
        for _ in range(came):
            budget.requested(now_s)
            requests.append(second)
        granted = sum(budget.take(now_s, ratio=ratio) for _ in range(wanted))
        retries += [second] * granted
        in_window = sum(second - WINDOW_S < told <= second for told in requests)
        taken = sum(second - WINDOW_S < told <= second for told in retries)
        allowed = ratio * in_window + MIN_RETRIES_PER_S * WINDOW_S if ratio > 0 else 0
        if granted:
            assert taken <= allowed
        # Nothing that is due is withheld either.
        if granted < wanted:
            assert taken + 1 > allowed


def test_a_burst_of_failures_is_retried_and_a_lasting_one_is_not() -> None:
    budget = RetryBudget()
    for _ in range(200):
        budget.requested(0.0)
    assert all(budget.take(0.5, ratio=0.2) for _ in range(100))
    granted = 0
    for tenth in range(6_000):
        now_s = 1 + tenth / 10
        for _ in range(100):
            budget.requested(now_s)
            granted += budget.take(now_s, ratio=0.2)
    # 1,000 requests a second that all fail: 200 retries by ratio and 10 by the minimum, over ten minutes.
    assert granted / 600 == pytest.approx(210, rel=0.02)


@given(gap_s=st.floats(0.01, 100), count=st.integers(1, 60))
def test_a_steady_line_has_the_rate_it_moves_at(gap_s: float, count: int) -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    for number in range(1, count + 1):
        drain.left(POOL, number * gap_s)
    rate = drain.per_s(POOL, count * gap_s)
    assert rate is not None
    assert rate == pytest.approx(1 / gap_s)


@given(
    gaps_s=st.lists(st.tuples(st.floats(0.01, 50), st.floats(0, 10_000)), min_size=1, max_size=30),
)
def test_time_without_a_line_does_not_count(gaps_s: list[tuple[float, float]]) -> None:
    busy, paused = DrainRate(), DrainRate()
    busy_now_s = paused_now_s = 0.0
    for gap_s, pause_s in gaps_s:
        busy.began(POOL, busy_now_s)
        paused.began(POOL, paused_now_s)
        busy_now_s += gap_s
        paused_now_s += gap_s
        busy.left(POOL, busy_now_s)
        paused.left(POOL, paused_now_s)
        paused.ended(POOL, paused_now_s)
        paused_now_s += pause_s
    expected = busy.per_s(POOL, busy_now_s)
    assert expected is not None
    assert paused.per_s(POOL, paused_now_s) == pytest.approx(expected, rel=1e-6)


@given(
    lefts_s=st.lists(st.floats(0.001, 300), max_size=40).map(sorted),
    ahead=st.floats(0, 5_000),
    more=st.floats(0, 5_000),
    later_s=st.floats(0, 1_000),
)
def test_retry_after_is_in_bounds_and_proportional_to_the_line(
    lefts_s: list[float], ahead: float, more: float, later_s: float
) -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    for left_s in lefts_s:
        drain.left(POOL, left_s)
    now_s = (lefts_s[-1] if lefts_s else 0.0) + later_s
    told_s = drain.retry_after_s(POOL, ahead, now_s)
    assert RETRY_AFTER_MIN_S <= told_s <= RETRY_AFTER_MAX_S
    assert told_s <= drain.retry_after_s(POOL, ahead + more, now_s)
    rate = drain.per_s(POOL, now_s)
    if rate is None:
        assert not lefts_s
        return
    exact_s = (ahead + 1) / rate if rate else math.inf
    assert told_s == math.ceil(min(max(exact_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S))


@given(before=st.floats(0.02, 20), after=st.floats(0.02, 20))
def test_a_changed_rate_is_followed(before: float, after: float) -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    now_s = 0.0
    for gap_s in (before, after):
        until_s = now_s + 40 * max(before, after, 10)
        while now_s < until_s:
            now_s += gap_s
            drain.left(POOL, now_s)
        rate = drain.per_s(POOL, now_s)
        assert rate is not None
        assert rate == pytest.approx(1 / gap_s, rel=0.25)


@given(given_s=st.text(max_size=60), limit_s=st.floats(0.1, 86_400))
def test_any_text_is_a_deadline_in_bounds_or_a_named_mistake(given_s: str, limit_s: float) -> None:
    read = read_deadline(given_s, arrived_s=100.0, limit_s=limit_s)
    if isinstance(read, BadTimeout):
        assert read.header == "x-request-timeout-s"
        assert read.limit_s == limit_s
        assert given_s.startswith(read.given)
    else:
        assert 100 < read.at_s <= 100 + limit_s


@given(seconds=st.decimals(0, 100_000, places=3), limit_s=st.floats(1, 86_400))
def test_every_plain_number_of_seconds_is_read_as_it_stands(seconds: object, limit_s: float) -> None:
    read = read_deadline(str(seconds), arrived_s=0.0, limit_s=limit_s)
    if 0 < float(str(seconds)) <= limit_s:
        assert read == Deadline(at_s=float(str(seconds)))
    else:
        assert isinstance(read, BadTimeout)


@given(at_s=st.floats(0, 1e6), now_s=st.floats(0, 1e6), wait_s=st.none() | st.floats(0, 1e6))
def test_what_is_left_never_grows_and_hopeless_means_no_time_for_the_wait(
    at_s: float, now_s: float, wait_s: float | None
) -> None:
    deadline = Deadline(at_s=at_s)
    assert deadline.left_s(now_s) >= deadline.left_s(now_s + 1) >= 0
    assert deadline.is_over(now_s) == (deadline.left_s(now_s) == 0)
    if deadline.is_over(now_s):
        assert deadline.is_hopeless(now_s, wait_s)
        return
    assume(wait_s is not None)
    assert wait_s is not None
    assert deadline.is_hopeless(now_s, wait_s) == (wait_s >= deadline.left_s(now_s))
    assert not deadline.is_hopeless(now_s, None)
