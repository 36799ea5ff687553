"""Retry-After, the retry budget and deadlines, case by case."""

from __future__ import annotations

import pytest

from cluster.core.admission.deadline import GIVEN_CHARACTERS_MAX, BadTimeout, Deadline, read_deadline
from cluster.core.admission.drain_rate import RETRY_AFTER_UNKNOWN_S, DrainRate
from cluster.core.admission.retry_budget import MIN_RETRIES_PER_S, WINDOW_S, RetryBudget
from cluster.core.lease import PoolName

POOL = PoolName("p")


def test_a_line_nobody_has_left_yet_is_guessed_by_how_long_it_has_stood_still() -> None:
    drain = DrainRate()
    assert drain.retry_after_s(POOL, 100, 0.0) == RETRY_AFTER_UNKNOWN_S
    drain.began(POOL, 0.0)
    assert drain.wait_s(POOL, 0, 3.0) is None
    assert drain.retry_after_s(POOL, 100, 3.0) == RETRY_AFTER_UNKNOWN_S
    assert drain.retry_after_s(POOL, 0, 20.0) == 20
    assert drain.retry_after_s(POOL, 0, 500.0) == 60


def test_retry_after_is_the_line_ahead_by_the_rate() -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    for half in range(1, 21):
        drain.left(POOL, half / 2)
    assert drain.per_s(POOL, 10.0) == pytest.approx(2.0)
    assert drain.retry_after_s(POOL, 9, 10.0) == 5
    assert drain.retry_after_s(POOL, 19, 10.0) == 10
    assert drain.retry_after_s(POOL, 0, 10.0) == 1
    assert drain.retry_after_s(POOL, 1_000, 10.0) == 60


def test_a_line_that_stands_still_looks_slower_and_slower() -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    for second in range(1, 11):
        drain.left(POOL, float(second))
    waits = [drain.wait_s(POOL, 0, 10.0 + stall_s) for stall_s in (0, 10, 60, 600, 100_000)]
    assert waits == sorted(waits, key=lambda wait_s: wait_s or 0.0)
    assert waits[-1] is not None


def test_slow_pools_keep_a_steady_rate_between_completions() -> None:
    drain = DrainRate()
    drain.began(POOL, 0.0)
    for number in range(1, 11):
        drain.left(POOL, number * 76.0)
    just_before = drain.per_s(POOL, 11 * 76.0 - 0.1)
    assert just_before is not None
    assert just_before == pytest.approx(1 / 76, rel=0.2)


def test_pools_are_measured_apart() -> None:
    drain = DrainRate()
    drain.left(POOL, 1.0)
    assert drain.per_s(PoolName("q"), 1.0) is None


def test_the_minimum_serves_where_there_is_little_traffic() -> None:
    budget = RetryBudget()
    budget.requested(0.0)
    assert all(budget.take(0.1, ratio=0.01) for _ in range(MIN_RETRIES_PER_S * WINDOW_S))
    assert not budget.take(0.2, ratio=0.01)
    assert budget.take(0.1 + WINDOW_S, ratio=0.01)


def test_a_ratio_of_zero_switches_further_attempts_off() -> None:
    budget = RetryBudget()
    budget.requested(0.0)
    assert not budget.take(0.0, ratio=0.0)


@pytest.mark.parametrize(
    "bad", ["", "0", "0.0", "-1", "+1", "1e3", "nan", "inf", "1_0", "٣", "3601", "1,5", "1.", ".5"]
)
def test_a_timeout_that_cannot_be_used_names_header_and_limit(bad: str) -> None:
    read = read_deadline(bad, arrived_s=0.0, limit_s=3600.0)
    assert read == BadTimeout(given=bad, limit_s=3600.0, header="x-request-timeout-s")


def test_a_bad_timeout_is_shown_in_part() -> None:
    read = read_deadline("9" * 10_000, arrived_s=0.0, limit_s=3600.0)
    assert isinstance(read, BadTimeout)
    assert len(read.given) == GIVEN_CHARACTERS_MAX


@pytest.mark.parametrize(("given", "at_s"), [(None, 3610.0), ("3600", 3610.0), ("1.5", 11.5), (" 2\t", 12.0)])
def test_deadlines_count_from_the_arrival(given: str | None, at_s: float) -> None:
    assert read_deadline(given, arrived_s=10.0, limit_s=3600.0) == Deadline(at_s=at_s)
