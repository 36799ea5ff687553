"""Agreement of two tools: what must hold whatever they measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.judges.agreement import JUDGED, TOLERANCE_RATIO, Verdict, agreement, compared
from loadtest.judges.taken import Figures, Taken, Timed, figures_of
from tests.judged import figures

VALUES = st.floats(1e-3, 1e3)
ROUNDING = 1e-9
ROUNDS = st.integers(2, 6).flatmap(
    lambda count: st.tuples(*(st.lists(VALUES, min_size=count, max_size=count) for _ in range(2)))
)


def sides(values: tuple[list[float], list[float]]) -> tuple[list[Figures], list[Figures]]:
    ours, theirs = ([figures(ttft_mean_s=value) for value in side] for side in values)
    return ours, theirs


@given(ROUNDS)
def test_who_is_called_ours_does_not_matter(values: tuple[list[float], list[float]]) -> None:
    ours, theirs = sides(values)
    one, other = compared("ttft_mean_s", ours, theirs), compared("ttft_mean_s", theirs, ours)
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert one.noise_ratio == other.noise_ratio
    assert one.apart_ratio == pytest.approx(other.apart_ratio, abs=1e-9)
    # Where it is a matter of the last digit, either may be.
    if abs(one.apart_ratio - TOLERANCE_RATIO) > ROUNDING and abs(one.apart_ratio - one.noise_ratio) > ROUNDING:
        assert one.verdict is other.verdict


@given(ROUNDS)
def test_a_value_that_both_had_is_no_difference(values: tuple[list[float], list[float]]) -> None:
    ours, theirs = sides(values)
    found = compared("ttft_mean_s", [*ours, ours[0]], [*theirs, ours[0]])
    assert found.verdict in {Verdict.AGREES, Verdict.NOISY}


@given(ROUNDS, st.floats(1.06, 100))
def test_more_noise_never_makes_a_difference(values: tuple[list[float], list[float]], factor: float) -> None:
    ours, theirs = sides(values)
    wider = [*theirs[1:], figures(ttft_mean_s=min(values[0]) / factor), figures(ttft_mean_s=max(values[0]) * factor)]
    found = compared("ttft_mean_s", ours, wider)
    assert found.verdict in {Verdict.AGREES, Verdict.NOISY}
    assert found.noise_ratio >= compared("ttft_mean_s", ours, ours).noise_ratio


@given(ROUNDS)
def test_an_agreement_is_that_of_its_figures(values: tuple[list[float], list[float]]) -> None:
    ours, theirs = sides(values)
    found = agreement(ours, theirs)
    assert [one.name for one in found.figures] == list(JUDGED)
    one = compared("ttft_mean_s", ours, theirs)
    assert found.verdict is one.verdict
    if one.apart_ratio <= TOLERANCE_RATIO:
        assert found.verdict is Verdict.AGREES


TIMED = st.builds(
    Timed,
    sent_s=st.floats(0, 100),
    ttft_s=st.floats(1e-3, 10),
    decode_s=st.floats(0, 10),
    prompt_tokens=st.integers(1, 1000),
    output_tokens=st.integers(1, 100),
    late_s=st.none() | st.floats(0, 1),
)


@given(st.lists(TIMED, min_size=1, max_size=20), st.floats(-1e6, 1e9))
def test_figures_do_not_depend_on_when_a_clock_began(answers: list[Timed], shift_s: float) -> None:
    moved = [
        Timed(
            sent_s=one.sent_s + shift_s, ttft_s=one.ttft_s, decode_s=one.decode_s, prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens, late_s=one.late_s,
        )
        for one in answers
    ]  # fmt: skip
    here, there = figures_of(Taken(answers=answers, failed=0)), figures_of(Taken(answers=moved, failed=0))
    for name in JUDGED:
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-3, nan_ok=True)
    assert here.due_ttft_p50_s >= min(one.ttft_s for one in answers) or here.due_ttft_p50_s != here.due_ttft_p50_s


@given(st.lists(TIMED, min_size=1, max_size=20))
def test_rates_and_means_are_of_the_same_answers(answers: list[Timed]) -> None:
    found = figures_of(Taken(answers=answers, failed=0))
    assert found.output_tokens_per_s / found.requests_per_s == pytest.approx(found.output_tokens)
    assert min(one.ttft_s for one in answers) <= found.ttft_p50_s <= found.ttft_p95_s
