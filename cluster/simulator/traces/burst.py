"""How unevenly requests come: rates that vary between long windows, and within them between short ones.

The model: a Poisson process whose rate is the mean times two gamma variables of mean 1, one for each long window, one
for each short window in it (a doubly stochastic, or Cox, process). With a and b their variances, the counts of short
windows vary relatively by (1 + a)(1 + b) - 1 beside Poisson's part, those of long ones by (1 + a)(1 + b / n) - 1, with
n short windows in a long one: two equations, which `fit_bursts` solves. What must not live here: lengths.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from statistics import fmean, pvariance

SHORT_WINDOW_S = 10.0
"""Mooncake's timestamps are rounded to 3 s, so shorter windows would see the rounding."""
LONG_WINDOW_S = 60.0
RATIO = LONG_WINDOW_S / SHORT_WINDOW_S
VARIANCE_MAX = 25.0
"""Of one gamma variable: with more, a handful of windows would hold all requests of an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Variances of the two gamma variables; 0 and 0 is a Poisson process."""

    long_variance: float = 0.0
    short_variance: float = 0.0


def fit_bursts(arrivals_s: Sequence[float]) -> Bursts:
    """The bursts of these arrivals, which begin at 0 and are in order; too few of them count as Poisson."""
    short = _excess(arrivals_s, SHORT_WINDOW_S)
    long = _excess(arrivals_s, LONG_WINDOW_S)
    ratio = (1 + short) / (1 + long)
    within = VARIANCE_MAX if ratio >= RATIO else max(0.0, (ratio - 1) / (1 - ratio / RATIO))
    between = max(0.0, (1 + short) / (1 + within) - 1)
    return Bursts(long_variance=min(between, VARIANCE_MAX), short_variance=min(within, VARIANCE_MAX))


def draw_arrivals(count: int, *, rate: float, bursts: Bursts, rng: random.Random) -> list[float]:
    """So many arrivals at so many a second in the mean, in order, the first at 0 s or later."""
    duration_s = count / rate
    weights: list[float] = []
    for _ in range(ceil(duration_s / LONG_WINDOW_S)):
        level = _gamma(bursts.long_variance, rng)
        weights += [level * _gamma(bursts.short_variance, rng) for _ in range(round(RATIO))]
    weights = weights[: ceil(duration_s / SHORT_WINDOW_S)]
    weights[-1] *= duration_s / SHORT_WINDOW_S - (len(weights) - 1)
    ends = list(accumulate(weights))
    last = len(weights) - 1
    arrivals = []
    for _ in range(count):
        point = rng.random() * ends[-1]
        window = min(bisect_right(ends, point), last)
        width_s = SHORT_WINDOW_S if window < last else duration_s - last * SHORT_WINDOW_S
        begin = ends[window] - weights[window]
        share = (point - begin) / weights[window] if weights[window] else 0.0
        arrivals.append(window * SHORT_WINDOW_S + min(max(share, 0.0), 1.0) * width_s)
    arrivals.sort()
    return arrivals


def _excess(arrivals_s: Sequence[float], window_s: float) -> float:
    """Relative variance of the counts, beside what a Poisson process has; whole windows only."""
    windows = int(arrivals_s[-1] / window_s) if arrivals_s else 0
    if windows < 2:  # noqa: PLR2004 - one count has no variance
        return 0.0
    counts = Counter(int(arrival_s / window_s) for arrival_s in arrivals_s)
    sizes = [counts[window] for window in range(windows)]
    mean = fmean(sizes)
    return max(0.0, (pvariance(sizes) - mean) / mean**2) if mean else 0.0


def _gamma(variance: float, rng: random.Random) -> float:
    return rng.gammavariate(1 / variance, variance) if variance > 0 else 1.0
