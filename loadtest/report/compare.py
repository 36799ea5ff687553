"""Two runs side by side: differences with confidence intervals.

Times: the percentile bootstrap over requests (Efron 1979; Efron and Tibshirani 1993, chapter 13). A percentile of a
resample needs no resample: the k-th smallest of n draws from n values in order is the value at place ceil(n U), where
U, the k-th smallest of n uniform numbers, has the distribution Beta(k, n - k + 1). So each draw costs one random
number, whatever the size of the run.

Shares: Newcombe's interval 10 for the difference of two independent proportions, made of Wilson's intervals
(Newcombe, Statistics in Medicine 17, 1998).

Both take requests for independent of each other. Requests that wait in one queue are not, so that the intervals of a
run near saturation are too narrow; repeat runs there. What must not live here: figures of one run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, nan, sqrt
from statistics import NormalDist
from typing import Any

from cluster.simulator.report.metrics import percentile
from cluster.simulator.report.table import finite
from loadtest.record import Record, Run
from loadtest.report.figures import run_figures
from loadtest.report.level import Level
from loadtest.report.summary import Summary, as_json, counted, summary
from loadtest.report.times import e2e_s, tpot_s, ttft_s

CONFIDENCE = 0.95
DRAWS = 2_000
"""Enough for the third digit of an interval's ends to stand still (Efron and Tibshirani want 1,000 and more)."""
VALUES_MIN = 20
"""Of fewer values an interval of a percentile says nothing."""
PERCENTS = (50, 95, 99)
Time = Callable[[Record], float | None]
TIMES: tuple[tuple[str, Time], ...] = (("ttft", ttft_s), ("tpot", tpot_s), ("e2e", e2e_s))
RATES = ("answered_per_s", "goodput_per_s", "output_tokens_per_s", "hit_ratio")
"""Compared without an interval: one number a run."""
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of both runs."""

    name: str
    label: str
    """Of which requests; empty: all."""
    first: float
    second: float
    low: float
    """Of second minus first; nan where there is no interval."""
    high: float

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs."""

    first: Summary
    second: Summary
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    """What makes the two no fair comparison."""


def compare(first: Run, second: Run, level: Level, *, seed: int = 0) -> Comparison:
    """Compare two runs, in all and for each label that both have.

    Args:
        first: the baseline.
        second: what is held against it.
        level: what counts as good in both.
        seed: of the bootstrap; the same seed, the same intervals.
    """
    one, other = summary(first, level), summary(second, level)
    rng = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
    here, there = counted(first), counted(second)
    found = [*_times("", here, there, rng), _good("", one, other)]
    names = {group.name for group in one.labels} & {group.name for group in other.labels}
    if len(one.labels) > 1 or len(other.labels) > 1:
        for name in sorted(names):
            rows = [[record for record in records if record.label == name] for records in (here, there)]
            found += _times(name, rows[0], rows[1], rng)
            found.append(_good(name, one, other))
    figures, others = run_figures(one), run_figures(other)
    found += [
        Difference(name=name, label="", first=figures[name], second=others[name], low=nan, high=nan) for name in RATES
    ]
    return Comparison(first=one, second=other, differences=tuple(found), warnings=_warnings(first, second))


def comparison_json(found: Comparison) -> dict[str, Any]:
    """For programs; what was not measured is null."""
    rows = [{**asdict(one), "difference": one.difference, "is_clear": one.is_clear} for one in found.differences]
    plain: dict[str, Any] = finite({"confidence": CONFIDENCE, "differences": rows, "warnings": found.warnings})
    return {**plain, "first": as_json(found.first), "second": as_json(found.second)}


def quantile_draws(ordered: Sequence[float], percent: float, rng: random.Random, draws: int = DRAWS) -> list[float]:
    """Bootstrap draws of a nearest-rank percentile of values in order; one or more values."""
    count = len(ordered)
    rank = max(ceil(percent / 100 * count), 1)
    return [
        ordered[min(max(ceil(count * rng.betavariate(rank, count - rank + 1)), 1), count) - 1] for _ in range(draws)
    ]


def share_interval(good: int, count: int) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    share, squared = good / count, _Z * _Z
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    half = _Z / (1 + squared / count) * sqrt(share * (1 - share) / count + squared / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _times(label: str, here: Sequence[Record], there: Sequence[Record], rng: random.Random) -> list[Difference]:
    found = []
    for name, time in TIMES:
        first, second = _values(here, time), _values(there, time)
        for percent in PERCENTS if first and second else ():
            low, high = _interval(first, second, percent, rng)
            found.append(
                Difference(
                    name=f"{name}_p{percent}_s",
                    label=label,
                    first=percentile(first, percent),
                    second=percentile(second, percent),
                    low=low,
                    high=high,
                )
            )
    return found


def _values(records: Sequence[Record], time: Time) -> list[float]:
    return sorted(value for record in records if not record.error and (value := time(record)) is not None)


def _interval(
    first: Sequence[float], second: Sequence[float], percent: float, rng: random.Random
) -> tuple[float, float]:
    # A percentile with nothing beyond it has no upper end that the values could show.
    needed = max(VALUES_MIN, ceil(100 / (100 - percent)))
    if min(len(first), len(second)) < needed:
        return nan, nan
    ours, theirs = quantile_draws(first, percent, rng), quantile_draws(second, percent, rng)
    found = sorted(there - here for here, there in zip(ours, theirs, strict=True))
    tail = (1 - CONFIDENCE) / 2 * 100
    return percentile(found, tail), percentile(found, 100 - tail)


def _good(label: str, one: Summary, other: Summary) -> Difference:
    first, second = _group(one, label), _group(other, label)
    low = high = nan
    if first[1] and second[1]:
        (low1, high1), (low2, high2) = share_interval(*first), share_interval(*second)
        share1, share2 = first[0] / first[1], second[0] / second[1]
        low = share2 - share1 - sqrt((share2 - low2) ** 2 + (high1 - share1) ** 2)
        high = share2 - share1 + sqrt((high2 - share2) ** 2 + (share1 - low1) ** 2)
    return Difference(
        name="good_ratio",
        label=label,
        first=first[0] / first[1] if first[1] else nan,
        second=second[0] / second[1] if second[1] else nan,
        low=low,
        high=high,
    )


def _group(found: Summary, label: str) -> tuple[int, int]:
    group = next((one for one in found.labels if one.name == label), found.every) if label else found.every
    return group.good, group.requests


def _warnings(first: Run, second: Run) -> tuple[str, ...]:
    found = []
    if first.scenario != second.scenario:
        found.append(f"the scenarios differ: {first.scenario} and {second.scenario}")
    changed = [
        f"{key}: {first.arguments.get(key)} and {second.arguments.get(key)}"
        for key in sorted({*first.arguments, *second.arguments})
        if first.arguments.get(key) != second.arguments.get(key)
    ]
    if changed:
        found.append(f"arguments differ: {'; '.join(changed)}")
    found += [f"run {place} was stopped: {run.stopped}" for place, run in ((1, first), (2, second)) if run.stopped]
    return tuple(found)
