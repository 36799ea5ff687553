"""The knee of a ramp, on services whose capacity is known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.record import Record
from loadtest.report.knee import Window, _good, find_knee
from loadtest.report.level import Level
from tests.loadtest_runs import record

LEVEL = Level(ttft_s=1.0)


def ramp(to_per_s: float, seconds: float, *, capacity_per_s: float, seed: int = 0) -> list[Record]:
    """Requests of a rate that grows from none, on a server that takes so many a second, first come first served."""
    rng, made, free_s = random.Random(seed), [], 0.0
    count = int(to_per_s * seconds / 2)
    for place in range(count):
        due_s = seconds * ((place + rng.random()) / count) ** 0.5
        free_s = max(due_s, free_s) + 1 / capacity_per_s
        made.append(record(due_s=due_s, sent_s=due_s, first_token_s=free_s, ended_s=free_s, gaps_s=[], output_tokens=1))
    return made


@settings(max_examples=10)
@given(st.floats(2.0, 12.0), st.integers(0, 2**32))
def test_the_capacity_of_a_single_server_is_found(capacity_per_s: float, seed: int) -> None:
    found = find_knee(ramp(20, 300, capacity_per_s=capacity_per_s, seed=seed), LEVEL)
    assert found is not None
    assert found.is_reached
    assert found.capacity_per_s == pytest.approx(capacity_per_s, rel=0.05)
    # Within two windows, of 0.67 requests a second each; waiting takes time to grow, so that the level may hold longer.
    assert capacity_per_s - 1.5 < found.good_per_s < capacity_per_s + 2.5


def test_a_ramp_that_ends_too_early_says_so() -> None:
    found = find_knee(ramp(5, 300, capacity_per_s=50), LEVEL)
    assert found is not None
    assert not found.is_reached
    assert found.good_per_s == max(window.offered_per_s for window in found.windows)


def test_a_steady_rate_is_no_ramp() -> None:
    assert find_knee([record(due_s=float(place)) for place in range(100)], LEVEL) is None


def test_too_few_requests_have_no_knee() -> None:
    assert find_knee([], LEVEL) is None
    assert find_knee([record(due_s=1.0), record(due_s=2.0)], LEVEL) is None


@pytest.mark.parametrize(
    ("ratios", "good"),
    [
        ([1, 1, 1], 3),
        ([0.5, 1, 1, 0, 0], 3),
        ([1, 0.5, 1, 0, 0], 3),
        ([1, 0, 0, 1], 1),
        ([1, 1, 0], 2),
        ([0, 0, 0], 0),
    ],
)
def test_one_bad_window_is_no_end_and_two_are(ratios: list[float], good: float) -> None:
    windows = [
        Window(at_s=0.0, offered_per_s=place, answered_per_s=0.0, good_ratio=ratio)
        for place, ratio in enumerate(ratios, 1)
    ]
    assert _good(windows) == good
