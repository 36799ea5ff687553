"""The sums of a report against naive ones, on random runs; and runs as files."""

from __future__ import annotations

import json
import random
from math import isclose, isnan
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.record import Record, Run
from loadtest.report import Level, as_json, is_good, summary
from loadtest.report.compare import compare, comparison_json, quantile_draws, share_interval
from loadtest.report.distribution import distribution
from loadtest.report.groups import BAND_NAMES, NOT_TOLD, band_of
from loadtest.report.page import comparison_page, run_page
from loadtest.report.timeline import timeline
from loadtest.run_file import read_run, write_run
from tests.loadtest_runs import RUNS, records

LEVELS = st.builds(
    Level,
    ttft_s=st.floats(0.01, 60),
    ttft_s_per_1k_tokens=st.floats(0, 1),
    itl_s=st.floats(0.001, 1),
    e2e_s=st.one_of(st.none(), st.floats(0.01, 100)),
)


def naive_rank(values: list[float], percent: int) -> float:
    """The smallest value that at least so many percent of the values do not exceed."""
    return min(value for value in values if sum(one <= value for one in values) * 100 >= percent * len(values))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_percentiles_are_nearest_ranks(values: list[float]) -> None:
    found = distribution(values)
    for percent in (50, 90, 95, 99):
        assert getattr(found, f"p{percent}") == naive_rank(values, percent)
    assert isclose(found.mean, sum(values) / len(values), abs_tol=1e-6)


@settings(max_examples=50)
@given(RUNS, LEVELS)
def test_every_request_counts_once_in_each_grouping(run: Run, level: Level) -> None:
    found = summary(run, level)
    counted = [one for one in run.records if one.due_s >= run.warmup_s]
    every = found.every
    assert every.requests == len(counted) == len(run.records) - found.warmup_requests
    assert every.answered + every.refused + every.failed == every.requests
    assert every.good == sum(naive_good(one, level) for one in counted) <= every.answered
    assert sum(error.requests for error in found.errors) == every.refused + every.failed
    for groups in (found.labels, found.bands, found.pools):
        for name in ("requests", "answered", "refused", "failed", "good", "prompt_tokens", "output_tokens"):
            assert sum(getattr(group, name) for group in groups) == getattr(every, name)
    assert sum(group.requests for group in found.tenants) == sum(bool(one.tenant) for one in counted)


def naive_good(one: Record, level: Level) -> bool:
    if one.error or one.first_token_s is None:
        return False
    late = one.first_token_s - one.due_s > level.ttft_s + level.ttft_s_per_1k_tokens * one.prompt_tokens / 1000
    slow = False
    if one.gaps_s and one.output_tokens >= 2:
        slow = (one.ended_s - one.first_token_s) / (one.output_tokens - 1) > level.itl_s
    long = level.e2e_s is not None and one.ended_s - one.due_s > level.e2e_s
    return not (late or slow or long)


@settings(max_examples=50)
@given(RUNS)
def test_times_and_rates_are_those_of_answered_requests(run: Run) -> None:
    found = summary(run, Level())
    answered = [one for one in run.records if one.due_s >= run.warmup_s and not one.error]
    ttfts = [one.first_token_s - one.due_s for one in answered if one.first_token_s is not None]
    gaps = [gap for one in answered for gap in one.gaps_s]
    for values, mine in ((ttfts, found.every.ttft_s), (gaps, found.every.itl_s)):
        assert mine.count == len(values)
        assert mine.p95 == naive_rank(values, 95) if values else isnan(mine.p95)
    end_s = max([run.seconds, *(one.ended_s for one in run.records if one.due_s >= run.warmup_s)])
    assert found.span_s == pytest.approx(max(end_s - run.warmup_s, 0))
    if found.span_s:
        assert found.answered_per_s * found.span_s == pytest.approx(len(answered))
        tokens = sum(one.output_tokens for one in answered)
        assert found.output_tokens_per_s * found.span_s == pytest.approx(tokens)
    assert 0 <= found.every.hit_ratio <= 1


@given(records())
def test_a_prompt_is_in_the_band_of_its_length(record: Record) -> None:
    limits = {"0-1k": (1, 1024), "1-4k": (1024, 4096), "4-16k": (4096, 16384), "16-64k": (16384, 65536)}
    name = band_of(record)
    tokens = record.prompt_tokens or record.planned_tokens
    if not tokens:
        assert name == NOT_TOLD
        return
    low, high = limits.get(name, (65536, 10**9))
    assert name in BAND_NAMES
    assert low <= tokens < high


@settings(max_examples=50)
@given(RUNS, st.sampled_from([10, 100, 600]))
def test_a_timeline_has_everything_once(run: Run, most: int) -> None:
    steps = timeline(run.records, run.seconds, most)
    total = len(run.records)
    assert sum(step.due for step in steps) == sum(step.sent for step in steps) == total
    assert sum(step.failed for step in steps) == sum(bool(one.error) for one in run.records)
    assert sum(step.done + step.failed for step in steps) == total
    assert steps[-1].in_flight == 0
    assert all(step.in_flight >= 0 for step in steps)
    tokens = sum(one.output_tokens for one in run.records if one.first_token_s is not None)
    assert abs(sum(step.output_tokens for step in steps) - tokens) <= len(steps)


@settings(max_examples=30)
@given(run=RUNS)
@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz"])
def test_a_run_comes_back_from_its_file(name: str, run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / name
    write_run(path, run)
    back = read_run(path)
    assert list(back.records) == list(run.records)
    assert (back.scenario, back.arguments, back.seconds, back.warmup_s) == (
        run.scenario,
        run.arguments,
        run.seconds,
        run.warmup_s,
    )


@settings(max_examples=30)
@given(RUNS, RUNS)
def test_pages_are_whole_and_need_nothing_else(first: Run, second: Run) -> None:
    level = Level()
    compared = compare(first, second, level)
    for page in (
        run_page(first, summary(first, level)),
        comparison_page(first, second, compared, ("a", "b")),
    ):
        assert page.startswith("<!doctype html>")
        # Browsers forgive more; what is well-formed needs no forgiveness.
        body = page[page.index("<body>") : page.index("</html>")]
        ET.fromstring(body)
        for outside in ("src=", "href=", "url(", "@import", "<script"):
            assert outside not in page
    json.dumps(as_json(summary(first, level)), allow_nan=False)
    json.dumps(comparison_json(compared), allow_nan=False)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.sampled_from([50, 95, 99]), st.integers(0, 2**32))
def test_draws_are_values_of_the_sample(values: list[float], percent: float, seed: int) -> None:
    assert set(quantile_draws(sorted(values), percent, random.Random(seed), 50)) <= set(values)


@given(st.integers(1, 2_000), st.floats(0, 1))
def test_a_shares_interval_holds_it(count: int, share: float) -> None:
    good = round(share * count)
    low, high = share_interval(good, count)
    assert 0 <= low <= good / count + 1e-12
    assert good / count - 1e-12 <= high <= 1


@settings(max_examples=30)
@given(RUNS)
def test_a_run_does_not_differ_from_itself(run: Run) -> None:
    found = compare(run, run, Level(), seed=1)
    assert not any(one.is_clear for one in found.differences)
    assert found.warnings == ()


@settings(max_examples=50)
@given(RUNS, LEVELS)
def test_a_stricter_level_has_fewer_good_ones(run: Run, level: Level) -> None:
    stricter = Level(
        ttft_s=level.ttft_s / 2,
        ttft_s_per_1k_tokens=level.ttft_s_per_1k_tokens / 2,
        itl_s=level.itl_s / 2,
        e2e_s=1.0 if level.e2e_s is None else level.e2e_s / 2,
    )
    for one in run.records:
        assert is_good(one, level) or not is_good(one, stricter)
