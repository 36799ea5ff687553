"""When two tools agree, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import isnan, nan

import pytest

from loadtest.judges.agreement import Verdict, agreement, chance_ratio, compared
from loadtest.judges.table import HEADS, TITLES, as_json, closing, rows
from tests.judged import figures

STEADY = [figures(), figures(), figures()]


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((0.16, 0.22, 0.28), (0.18, 0.25, 0.32), Verdict.AGREES),  # medians are nearer than the noise
        ((0.21, 0.22, 0.26), (0.25, 0.30, 0.31), Verdict.NOISY),  # ranges overlap, and medians are further than it
        ((0.20, 0.22, 0.24), (0.25, 0.26, 0.27), Verdict.DIFFERS),
        ((0.25, 0.26, 0.27), (0.20, 0.22, 0.24), Verdict.DIFFERS),
        ((0.200, 0.201, 0.202), (0.205, 0.206, 0.207), Verdict.AGREES),  # apart, and by less than anyone asks for
        ((0.1, 0.2, 0.4), (0.1, 0.3, 0.8), Verdict.NOISY),  # nearer, as nearly anything would be
        ((0.1, 0.2, 0.3), (0.1, 0.2, 0.8), Verdict.AGREES),  # as wide, around the same
        ((0.20, 0.22, nan), (0.23, 0.25, 0.27), Verdict.UNKNOWN),
    ],
)
def test_a_figure_differs_where_ranges_lie_apart_by_more_than_matters(
    ours: tuple[float, ...], theirs: tuple[float, ...], verdict: Verdict
) -> None:
    found = compared(
        "ttft_mean_s", [figures(ttft_mean_s=one) for one in ours], [figures(ttft_mean_s=one) for one in theirs]
    )
    assert found.verdict is verdict


def test_one_figure_that_differs_is_a_disagreement() -> None:
    assert agreement(STEADY, STEADY).verdict is Verdict.AGREES
    slow = [figures(tpot_mean_s=0.05)] * 3
    found = agreement(STEADY, slow)
    assert found.verdict is Verdict.DIFFERS
    assert [one.name for one in found.figures if one.verdict is Verdict.DIFFERS] == ["tpot_mean_s"]
    assert "They do not measure the same." in closing(found, 3)


def test_what_was_not_measured_is_no_agreement() -> None:
    assert agreement(STEADY, [figures(ttft_p95_s=nan)] * 3).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("theirs", "word"),
    [
        ({"failed": 1}, "3 requests of the judge failed"),
        ({"prompt_tokens": 530}, "prompts have 512.0 tokens here and 530.0 there"),
        ({"output_tokens": 60}, "answers have 64.0 tokens here"),
    ],
)
def test_another_load_cannot_be_compared(theirs: dict[str, float], word: str) -> None:
    found = agreement(STEADY, [figures(**theirs)] * 3)
    assert found.verdict is Verdict.UNKNOWN
    assert any(word in fault for fault in found.faults)


def test_noise_is_no_agreement() -> None:
    wild = [figures(ttft_p95_s=value) for value in (0.3, 0.5, 0.9)]
    found = agreement(STEADY, wild)
    assert found.verdict is Verdict.NOISY
    assert any("Repeat it in quiet" in line for line in closing(found, 3))
    assert agreement(STEADY, [replace(one, tpot_mean_s=1) for one in wild]).verdict is Verdict.DIFFERS


@pytest.mark.parametrize("rounds", [2, 3, 4, 5])
def test_the_chance_of_ranges_that_lie_apart(rounds: int) -> None:
    places = range(2 * rounds)
    ways = list(combinations(places, rounds))
    apart = [one for one in ways if max(one) < rounds or min(one) >= rounds]
    assert chance_ratio(rounds) == pytest.approx(len(apart) / len(ways))


def test_rows_say_both_sides_and_the_verdict() -> None:
    found = agreement(STEADY, [figures(late_p95_s=nan)] * 3)
    shown = rows(found, STEADY, [figures(late_p95_s=nan)] * 3)
    assert [len(row) for row in shown] == [len(HEADS)] * len(TITLES)
    by_title = {row[0]: row for row in shown}
    assert by_title["TTFT p50, from sending"][1:] == ("180 ms (180 ms to 180 ms)",) * 2 + ("1.000", "0%", "agrees")
    assert by_title["sent late by, p95"][2] == "–"  # noqa: RUF001 - a dash
    assert by_title["sent late by, p95"][-1] == ""


def test_json_has_every_round() -> None:
    told = as_json(agreement(STEADY, STEADY), STEADY, STEADY)
    assert told["verdict"] == "agrees"
    assert told["figures"]["requests_per_s"] == {
        "ours": 2, "theirs": 2, "ratio": 1, "noise_ratio": 0, "verdict": "agrees"
    }  # fmt: skip
    assert len(told["rounds"]["ours"]) == len(told["rounds"]["theirs"]) == 3


def test_nothing_to_a_ratio_is_no_ratio() -> None:
    assert isnan(compared("ttft_mean_s", [figures(ttft_mean_s=0.0)] * 3, STEADY).ratio)
