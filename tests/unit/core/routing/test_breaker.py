"""Breakers, with time in hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.lease import ReplicaId
from cluster.core.routing.breaker import (
    COOL_DOWN_S,
    FAILURE_WINDOW_S,
    FAILURES_TO_OPEN,
    TRIAL_S,
    Breaker,
    Breakers,
    BreakerState,
)

ONE = ReplicaId("one")


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(now_s)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(0)
        assert breaker.state(0) is BreakerState.CLOSED
    breaker.failed(0)
    assert breaker.state(0) is BreakerState.OPEN


def test_any_answer_ends_the_row() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(0)
        breaker.answered()  # a 429 or 503 too
    assert breaker.state(0) is BreakerState.CLOSED


def test_failures_far_apart_do_not_add_up() -> None:
    breaker = Breaker()
    for number in range(10):
        breaker.failed(number * FAILURE_WINDOW_S)
        assert breaker.state(number * FAILURE_WINDOW_S) is BreakerState.CLOSED


def test_one_trial_after_the_cool_down_decides() -> None:
    breaker = opened()
    assert breaker.state(COOL_DOWN_S - 0.01) is BreakerState.OPEN
    assert breaker.state(COOL_DOWN_S) is BreakerState.HALF_OPEN
    breaker.started(COOL_DOWN_S)
    assert breaker.state(COOL_DOWN_S) is BreakerState.OPEN, "only one request is let through"
    breaker.failed(COOL_DOWN_S + 1)
    assert breaker.state(2 * COOL_DOWN_S) is BreakerState.OPEN, "one more failure is enough"
    assert breaker.state(2 * COOL_DOWN_S + 1) is BreakerState.HALF_OPEN
    breaker.started(2 * COOL_DOWN_S + 1)
    breaker.answered()
    assert breaker.state(2 * COOL_DOWN_S + 1) is BreakerState.CLOSED


def test_a_trial_that_tells_nothing_does_not_block_for_ever() -> None:
    breaker = opened()
    breaker.started(COOL_DOWN_S)
    assert breaker.state(COOL_DOWN_S + TRIAL_S - 0.01) is BreakerState.OPEN
    assert breaker.state(COOL_DOWN_S + TRIAL_S) is BreakerState.HALF_OPEN


@given(events=st.lists(st.tuples(st.sampled_from(["started", "failed", "answered"]), st.floats(0, 20))))
def test_it_is_open_only_after_enough_failures_in_a_row(events: list[tuple[str, float]]) -> None:
    breaker, now_s, row = Breaker(), 0.0, 0
    for kind, later_s in events:
        now_s += later_s
        if kind == "started":
            breaker.started(now_s)
        elif kind == "failed":
            breaker.failed(now_s)
            row += 1
        else:
            breaker.answered()
            row = 0
        if row < FAILURES_TO_OPEN:
            assert breaker.state(now_s) is BreakerState.CLOSED
        assert breaker.state(now_s + TRIAL_S + COOL_DOWN_S) is not BreakerState.OPEN


def test_the_breakers_of_all_endpoints_tell_the_table_what_to_do() -> None:
    breakers = Breakers()
    assert not breakers.started(ONE, 0)
    assert [breakers.failed(ONE, 0) for _ in range(FAILURES_TO_OPEN)] == [False] * (FAILURES_TO_OPEN - 1) + [True]
    assert breakers.states(1) == {ONE: BreakerState.OPEN}
    assert breakers.states(COOL_DOWN_S) == {ONE: BreakerState.HALF_OPEN}
    assert breakers.started(ONE, COOL_DOWN_S), "its trial runs: nobody else goes there"
    assert not breakers.answered(ONE)
    assert breakers.states(COOL_DOWN_S) == {}
    breakers.failed(ONE, 50)
    breakers.forget(ONE)
    assert breakers.states(50) == {}
