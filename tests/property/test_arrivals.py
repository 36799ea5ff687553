"""Arrivals: rising, endless, the same for a seed, at the rate that was asked for, never in a pause."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import Bursts, Course, Ramp, Spacing, Steady, arrivals, parse_course, replayed

rates = st.floats(0.01, 1000)
spans = st.floats(0.1, 1000)
steady = st.builds(Steady, rate_per_s=rates)
bursts = st.builds(Bursts, rate_per_s=rates, on_s=spans, off_s=st.floats(0, 1000))
ramps = st.builds(Ramp, first_per_s=st.just(0.0) | rates, last_per_s=rates, over_s=spans)
courses = st.one_of(steady, bursts, ramps)
spacings = st.sampled_from(Spacing)
seeds = st.integers(0, 2**32)


@given(courses, seeds, spacings)
def test_times_rise_from_zero_and_are_a_seeds_own(course: Course, seed: int, spacing: Spacing) -> None:
    times = list(islice(arrivals(course, seed=seed, spacing=spacing), 200))
    assert times == list(islice(arrivals(course, seed=seed, spacing=spacing), 200))
    assert times[0] >= 0
    assert all(before <= after for before, after in pairwise(times))


@given(bursts, seeds)
def test_nothing_comes_in_a_pause(course: Bursts, seed: int) -> None:
    period_s = course.on_s + course.off_s
    for at_s in islice(arrivals(course, seed=seed), 200):
        assert at_s % period_s <= course.on_s * (1 + 1e-9) + 1e-6 * at_s or period_s - at_s % period_s < 1e-6 * at_s


@given(ramps, st.floats(1e-6, 5000))
def test_a_ramp_has_as_many_arrivals_as_its_rate_adds_up_to(course: Ramp, unit_s: float) -> None:
    at_s = course.at(unit_s)
    within_s = min(at_s, course.over_s)
    slope = (course.last_per_s - course.first_per_s) / course.over_s
    expected = course.first_per_s * within_s + slope * within_s**2 / 2 + (at_s - within_s) * course.last_per_s
    assert expected == pytest.approx(unit_s, rel=1e-6, abs=1e-6)


@given(steady)
def test_constant_arrivals_are_the_rates_own(course: Steady) -> None:
    times = list(islice(arrivals(course, seed=1, spacing=Spacing.CONSTANT), 50))
    assert times == pytest.approx([number / course.rate_per_s for number in range(50)])


@given(steady, seeds)
def test_poisson_arrivals_have_the_rate_in_the_mean(course: Steady, seed: int) -> None:
    count = 4_000
    last_s = next(islice(arrivals(course, seed=seed), count - 1, None))
    # Six standard deviations of a sum of so many exponential gaps.
    assert last_s * course.rate_per_s == pytest.approx(count, abs=6 * count**0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0.01, 100))
def test_a_replay_keeps_the_shape_of_its_trace(times: list[float], speed: float) -> None:
    found = list(replayed(times, speed=speed))
    assert found[0] == 0
    assert [at_s * speed for at_s in found] == pytest.approx([at_s - times[0] for at_s in times], abs=1e-6)


def test_a_trace_that_is_not_sorted_is_refused_where_it_goes_back() -> None:
    with pytest.raises(ValueError, match="time 2 of the trace"):
        list(replayed([0.0, 2.0, 1.0]))
    with pytest.raises(ValueError, match="speed"):
        replayed([0.0], speed=0)


@pytest.mark.parametrize(
    ("text", "rate", "course"),
    [
        ("poisson", None, Steady(rate_per_s=1)),
        ("constant", 5.0, Steady(rate_per_s=5)),
        ("bursts=2,8", 50.0, Bursts(rate_per_s=50, on_s=2, off_s=8)),
        ("ramp=1,20,60", None, Ramp(first_per_s=1, last_per_s=20, over_s=60)),
    ],
)
def test_courses_are_read_as_they_are_typed(text: str, rate: float | None, course: Course) -> None:
    found, spacing = parse_course(text, rate)
    assert found == course
    assert spacing is (Spacing.CONSTANT if text == "constant" else Spacing.POISSON)


@pytest.mark.parametrize("text", ["", "poisson=1", "bursts=1", "bursts=0,1", "bursts=1,-1", "ramp=1,0,5", "ramp=a,1,5"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_course(text, None)


def test_a_ramp_takes_no_other_rate() -> None:
    with pytest.raises(ValueError, match="--rate"):
        parse_course("ramp=1,2,3", 5.0)
