"""Conditions as text, and which of them a run misses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.errors import SetupError
from loadtest.report import Level, missed, parse_threshold, summary
from loadtest.report.figures import GROUP_NAMES, NAMES, group_figures, run_figures
from tests.loadtest_runs import record, refused, run

RUN = run(record(label="short"), record(label="short", first_token_s=0.5, ended_s=0.7), refused(label="long"))
SUMMARY = summary(RUN, Level(ttft_s=0.2, ttft_s_per_1k_tokens=0.0))


@pytest.mark.parametrize(
    ("text", "is_missed"),
    [
        ("ttft_p95_s<0.6", False),
        ("ttft_p95_s<0.5", True),
        ("ttft_p95_s <= 0.5", False),
        ("ttft_p50_s>=0.1", False),
        ("ttft_p50_s>0.1", True),
        ("error_ratio<0.4", False),
        ("refused_ratio<0.3", True),
        ("good_ratio>0.3", False),
        ("short/error_ratio<=0", False),
        ("short/good_ratio>=0.5", False),
        ("long/error_ratio<1", True),
        ("requests>=3", False),
        ("output_tokens_per_s>0.59", False),
        ("goodput_per_s<0.11", False),
    ],
)
def test_conditions(text: str, is_missed: bool) -> None:
    assert [str(one.threshold) for one in missed(SUMMARY, [parse_threshold(text)])] == (
        [str(parse_threshold(text))] if is_missed else []
    )


@pytest.mark.parametrize("text", ["long/ttft_p95_s<9", "nobody/requests>=0", "knee_good_per_s>0", "e2e_p99_s<9"])
def test_what_was_not_measured_is_missed(text: str) -> None:
    empty = summary(run(refused(label="long")), Level())
    (one,) = missed(empty, [parse_threshold(text)])
    assert "was not measured" in str(one)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ttft_p95_s=2", "is no condition"),
        ("ttft_p95<2", "did you mean ttft_p95_s"),
        ("x<2", "known: ttft_mean_s"),
        ("ttft_p95_s<fast", "is no number"),
        ("ttft_p95_s<nan", "is no number"),
        ("short/goodput_per_s>1", "no figure of a label"),
        ("", "is no condition"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        parse_threshold(text)


@given(st.sampled_from(NAMES), st.sampled_from(["<", "<=", ">", ">="]), st.floats(-1e6, 1e6))
def test_a_condition_reads_as_it_is_written(name: str, sign: str, limit: float) -> None:
    found = parse_threshold(f"{name}{sign}{limit!r}")
    assert (found.label, found.name, found.sign, found.limit) == ("", name, sign, limit)


def test_every_name_is_a_figure() -> None:
    assert set(run_figures(SUMMARY)) == set(NAMES)
    assert set(group_figures(SUMMARY.every)) == set(GROUP_NAMES)
