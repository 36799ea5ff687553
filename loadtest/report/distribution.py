"""Values in a few numbers.

What must not live here: what the values are of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

from cluster.simulator.report.metrics import percentile

PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Nearest-rank percentiles: the smallest value which so many percent do not exceed; nan where there are none."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


def distribution(values: Iterable[float]) -> Distribution:
    """Of these values."""
    ordered = sorted(values)
    if not ordered:
        return Distribution(count=0, mean=nan, p50=nan, p90=nan, p95=nan, p99=nan)
    p50, p90, p95, p99 = (percentile(ordered, percent) for percent in PERCENTS)
    return Distribution(count=len(ordered), mean=sum(ordered) / len(ordered), p50=p50, p90=p90, p95=p95, p99=p99)
