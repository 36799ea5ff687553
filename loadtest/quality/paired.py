"""Two conditions, the same questions: outcomes in pairs.

The interval of the difference is Newcombe's method 10 for paired proportions, made of Wilson's intervals and the
correlation of the outcomes (Newcombe, Statistics in Medicine 17:2635, 1998; worked out in Altman and others, Statistics
with Confidence, 2000, page 52). The test is McNemar's, exact: the pairs that differ are tosses of a fair coin
(McNemar, Psychometrika 12, 1947). What must not live here: whether answers are equal (verdict.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb, nan, sqrt

from loadtest.report.compare import share_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How many questions were answered rightly under which of two conditions."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def count(self) -> int:
        """All of them."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def difference(self) -> float:
        """Of the shares of right answers, second minus first; nan without questions."""
        return (self.only_second - self.only_first) / self.count if self.count else nan


def pairs_of(outcomes: Iterable[tuple[bool, bool]]) -> Pairs:
    """Counted."""
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for outcome in outcomes:
        counts[outcome] += 1
    return Pairs(
        both=counts[True, True],
        only_first=counts[True, False],
        only_second=counts[False, True],
        neither=counts[False, False],
    )


def difference_interval(pairs: Pairs) -> tuple[float, float]:
    """The 95% interval of `Pairs.difference`; nan without questions."""
    count = pairs.count
    if not count:
        return nan, nan
    first, second = pairs.both + pairs.only_first, pairs.both + pairs.only_second
    share1, share2 = first / count, second / count
    (low1, high1), (low2, high2) = share_interval(first, count), share_interval(second, count)
    phi = _correlation(pairs)

    def half(one: float, other: float) -> float:
        # Rounding may leave a trifle below 0.
        return sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))

    return (
        share2 - share1 - half(share2 - low2, high1 - share1),
        share2 - share1 + half(high2 - share2, share1 - low1),
    )


def chance(pairs: Pairs) -> float:
    """How likely as uneven a split of the differing pairs or a more uneven one is where there is no difference."""
    tosses, fewer = pairs.only_first + pairs.only_second, min(pairs.only_first, pairs.only_second)
    as_uneven = 2 * sum(comb(tosses, heads) for heads in range(fewer + 1))
    return min(as_uneven / (1 << tosses), 1.0)


def _correlation(pairs: Pairs) -> float:
    """Of the outcomes; a positive one with Newcombe's continuity correction."""
    first, second = pairs.both + pairs.only_first, pairs.both + pairs.only_second
    squared = first * (pairs.count - first) * second * (pairs.count - second)
    if not squared:
        return 0.0
    product = pairs.both * pairs.neither - pairs.only_first * pairs.only_second
    return (max(product - pairs.count / 2, 0.0) if product > 0 else product) / sqrt(squared)
