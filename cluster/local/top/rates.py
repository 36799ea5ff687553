"""What two pages of counters say together: how fast they grew, how long requests took meanwhile.

What must not live here: which metrics these are (sight.py), I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from cluster.local.top.page import Page


def rate(before: Page, now: Page, name: str, **labels: str) -> float | None:
    """How much a counter grew in a second; None where it is not told, or no time has passed.

    A counter that is smaller than before has begun anew, as Prometheus's `rate` takes it. One that was not there before
    began at zero.
    """
    seconds = now.read_s - before.read_s
    value = now.total(name, **labels)
    if value is None or seconds <= 0:
        return None
    return _grown(before.total(name, **labels) or 0.0, value) / seconds


def share(part: float | None, whole: float | None) -> float | None:
    """Part of a whole, from 0 to 1; None where there is no whole."""
    if part is None or not whole:
        return None
    return min(max(part / whole, 0.0), 1.0)


def quantile(before: Page, now: Page, name: str, q: float, **labels: str) -> float | None:
    """The quantile of what a histogram observed between two pages; None where it observed nothing.

    Args:
        before: the earlier page.
        now: the later one.
        name: the histogram's, without `_bucket`.
        q: from 0 to 1.
        **labels: of the series that are added up.
    """
    earlier = before.buckets(name, **labels)
    later = now.buckets(name, **labels)
    is_anew = any(count < earlier.get(bound, 0.0) for bound, count in later.items())
    grown = {bound: count if is_anew else count - earlier.get(bound, 0.0) for bound, count in later.items()}
    return quantile_of(grown, q)


def quantile_of(buckets: Mapping[float, float], q: float) -> float | None:
    """The quantile of a histogram, evenly spread within its bucket, as Prometheus's `histogram_quantile` has it.

    Args:
        buckets: how many observations were at most each bound; the last bound is infinite.
        q: from 0 to 1.

    Returns:
        None without observations; the largest finite bound where the quantile lies above it.
    """
    bounds = sorted(buckets)
    if not bounds or not math.isinf(bounds[-1]) or buckets[bounds[-1]] <= 0:
        return None
    rank = q * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            if math.isinf(bound):
                return lower
            # A first bound that is not over zero is told as it is: nothing says how far below it they lie.
            start = min(lower, bound)
            return start + (bound - start) * (rank - below) / (count - below)
        lower, below = bound, max(count, below)
    return lower


def _grown(before: float, now: float) -> float:
    return now - before if now >= before else now
