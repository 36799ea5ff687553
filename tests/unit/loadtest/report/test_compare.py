"""Two runs: intervals that hold the difference as often as they say, and what makes a comparison unfair."""

from __future__ import annotations

import random
from math import isnan

import pytest

from loadtest.record import Run
from loadtest.report import Level
from loadtest.report.compare import _interval, compare, quantile_draws, share_interval
from tests.loadtest_runs import record, refused, run


def drawn(seed: int, count: int, *, slower: float = 1.0, label: str = "chat") -> Run:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        first = 0.1 * slower * rng.lognormvariate(0, 0.5)
        rows.append(record(label=label, first_token_s=first, ended_s=first + 0.2))
    return run(*rows)


def difference(first: Run, second: Run, name: str, seed: int = 0) -> tuple[float, float, bool]:
    found = next(one for one in compare(first, second, Level(), seed=seed).differences if one.name == name)
    return found.low, found.high, found.is_clear


def test_a_slower_run_is_seen() -> None:
    low, high, is_clear = difference(drawn(1, 400), drawn(2, 400, slower=1.5), "ttft_p50_s")
    assert is_clear
    assert low < 0.05 < high


@pytest.mark.parametrize("percent", [50, 95])
def test_runs_that_are_alike_differ_about_as_often_as_the_confidence_says(percent: int) -> None:
    clear = 0
    for seed in range(60):
        rng = random.Random(seed)
        first, second = (sorted(rng.lognormvariate(0, 0.5) for _ in range(150)) for _ in range(2))
        low, high = _interval(first, second, percent, rng)
        clear += low > 0 or high < 0
    # 5% of 60 are 3; more than 9 would come once in 400 tries.
    assert clear <= 9


def test_a_draw_is_what_a_resample_would_give() -> None:
    values = sorted(random.Random(3).lognormvariate(0, 1) for _ in range(40))
    rng = random.Random(4)
    resampled = sorted(sorted(rng.choices(values, k=40))[19] for _ in range(4_000))
    ours = sorted(quantile_draws(values, 50, random.Random(5), 4_000))
    # The two are the same distribution: their means are near, against a standard deviation of one value's place.
    assert sum(ours) / 4_000 == pytest.approx(sum(resampled) / 4_000, rel=0.02)
    assert ours[100] == pytest.approx(resampled[100], rel=0.15)
    assert ours[-100] == pytest.approx(resampled[-100], rel=0.15)


def test_wilsons_interval() -> None:
    # Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662; 0 of 20 is 0 to 0.1611.
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_newcombes_interval_of_a_difference() -> None:
    # Newcombe 1998, table II, method 10, (a): 56/70 and 48/80, difference 0.2: 0.0524 to 0.3339.
    first = run(*[record()] * 48, *[refused()] * 32)
    second = run(*[record()] * 56, *[refused()] * 14)
    low, high, is_clear = difference(first, second, "good_ratio")
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert is_clear


def test_few_values_have_no_interval() -> None:
    low, high, is_clear = difference(drawn(1, 15), drawn(2, 15, slower=9), "ttft_p50_s")
    assert isnan(low)
    assert isnan(high)
    assert not is_clear
    assert isnan(difference(drawn(1, 60), drawn(2, 60), "ttft_p99_s")[0])


def test_labels_that_both_have_are_compared() -> None:
    first = run(*drawn(1, 30, label="short").records, *drawn(2, 30, label="long").records)
    second = drawn(3, 30, label="short")
    found = compare(first, second, Level())
    assert {one.label for one in found.differences} == {"", "short"}


def test_a_seed_says_everything() -> None:
    first, second = drawn(1, 50), drawn(2, 50)
    rows = [
        [(one.name, one.low) for one in compare(first, second, Level(), seed=seed).differences if not isnan(one.low)]
        for seed in (1, 1, 2)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_what_makes_a_comparison_unfair_is_told() -> None:
    found = compare(
        run(record(), scenario="mixed", arguments={"rate": 4, "seed": 1}),
        run(record(), arguments={"rate": 5, "seed": 1}, stopped="too many errors"),
        Level(),
    )
    told = "\n".join(found.warnings)
    assert "mixed and short-chat" in told
    assert "rate: 4 and 5" in told
    assert "seed" not in told
    assert "run 2 was stopped: too many errors" in told
