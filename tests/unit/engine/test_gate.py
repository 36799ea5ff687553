"""When a full replica says to come back."""

from __future__ import annotations

import contextlib

import pytest

from cluster.engine.drain_rate import DRAIN_WINDOW_S, FINISHES_MAX, RETRY_AFTER_MAX_S, DrainRate
from cluster.engine.gate import Gate


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def busy(clock: Clock) -> DrainRate:
    rate = DrainRate(clock)
    clock.now_s += 100
    rate.became_busy()
    return rate


@pytest.mark.parametrize(("every_s", "expected_s"), [(0.1, 1), (1.0, 1), (1.5, 2), (5.0, 5), (14.0, 10)])
def test_the_mean_time_between_finished_requests(every_s: float, expected_s: int) -> None:
    clock = Clock()
    rate = busy(clock)
    for _ in range(int(90 / every_s)):
        clock.now_s += every_s
        rate.finished()
    assert rate.retry_after_s == expected_s


def test_before_anything_finished_it_is_as_long_as_it_took_so_far() -> None:
    clock = Clock()
    rate = busy(clock)
    assert rate.retry_after_s == 1
    clock.now_s += 12.5
    assert rate.retry_after_s == 13
    clock.now_s += 600
    assert rate.retry_after_s == RETRY_AFTER_MAX_S


def test_old_finishes_do_not_count() -> None:
    clock = Clock()
    rate = busy(clock)
    for _ in range(300):
        clock.now_s += 0.1
        rate.finished()
    assert rate.retry_after_s == 1
    clock.now_s += DRAIN_WINDOW_S + 1
    assert rate.retry_after_s == RETRY_AFTER_MAX_S


def test_idle_time_says_nothing() -> None:
    clock = Clock()
    rate = busy(clock)
    rate.finished()
    clock.now_s += 25
    rate.became_busy()
    clock.now_s += 2
    assert rate.retry_after_s == 2


def test_memory_is_bounded() -> None:
    clock = Clock()
    rate = busy(clock)
    for _ in range(2 * FINISHES_MAX):
        clock.now_s += 0.001
        rate.finished()
    assert len(rate._finished_s) == FINISHES_MAX
    assert rate.retry_after_s == 1


def test_a_full_gate_says_when_a_closed_one_says_now() -> None:
    clock = Clock()
    made = Gate(engine_is_dead=lambda: False, max_requests=2, clock=clock)
    with contextlib.ExitStack() as stack:
        stack.enter_context(made.passage())
        stack.enter_context(made.passage())
        clock.now_s += 20
        assert (made.refusal, made.retry_after_s) == ("overload", 20)
        made.draining = True
        assert (made.refusal, made.retry_after_s) == ("draining", 1)
    made.draining = False
    assert (made.refusal, made.in_flight) == (None, 0)
