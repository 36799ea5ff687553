"""Whether two tools that took turns measured the same, as far as this machine's noise lets one see.

What must not live here: running them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb, isfinite, nan
from statistics import median, quantiles

from loadtest.judges.taken import Figures

JUDGED = (
    "ttft_mean_s", "ttft_p50_s", "ttft_p95_s", "tpot_mean_s", "tpot_p95_s", "output_tokens_per_s", "requests_per_s",
)  # fmt: skip
"""Figures that have to agree."""
TOLERANCE_RATIO = 0.05
"""Medians nearer than this agree however small the noise is: nobody decides by less."""
NOISE_RATIO_MAX = 0.5
"""Of a figure: in more noise, that medians are no further apart says little."""
TOKENS_RATIO_MAX = 0.01
"""Of mean lengths: with more, two loads are not the same load."""


class Verdict(StrEnum):
    """Of one figure."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOISY = "too noisy"
    """No difference is shown, and no agreement."""
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure, a value of each round."""

    name: str
    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratio(self) -> float:
        """Their median to ours; nan where there is none."""
        ours = median(self.ours)
        return median(self.theirs) / ours if ours else nan

    @property
    def apart_ratio(self) -> float:
        """By how much the larger median is larger, whichever tool's it is; nan where there is no ratio."""
        return max(self.ratio, 1 / self.ratio) - 1 if self.ratio else nan

    @property
    def noise_ratio(self) -> float:
        """How far apart rounds of the same tool lie: the middle half of them, to the median, of the noisier tool."""
        return max(_spread_ratio(self.ours), _spread_ratio(self.theirs))

    @property
    def verdict(self) -> Verdict:
        """Differs where every round of one tool is above every round of the other, and medians are over 5% apart.

        Agrees where they are no further apart than the noise, of a noise that is small enough to say something, or than
        5%. Were both tools the same, ranges of R rounds each would lie apart by chance in 2 of (2R choose R) runs: the
        exact two-sided rank test of Mann and Whitney (1947) at its most extreme value.
        """
        if not all(map(isfinite, (*self.ours, *self.theirs, self.apart_ratio))):
            return Verdict.UNKNOWN
        if self.apart_ratio <= TOLERANCE_RATIO:
            return Verdict.AGREES
        if max(self.ours) < min(self.theirs) or max(self.theirs) < min(self.ours):
            return Verdict.DIFFERS
        return Verdict.AGREES if self.apart_ratio <= self.noise_ratio <= NOISE_RATIO_MAX else Verdict.NOISY


_WORST_FIRST = (Verdict.UNKNOWN, Verdict.DIFFERS, Verdict.NOISY, Verdict.AGREES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What came of a comparison."""

    figures: Sequence[Comparison]
    """Those of `JUDGED`."""
    faults: Sequence[str]
    """Why the two runs cannot be compared at all; empty: they can."""

    @property
    def verdict(self) -> Verdict:
        """Of all: the worst of any, and that nothing is known where the runs cannot be compared."""
        if self.faults:
            return Verdict.UNKNOWN
        found = {one.verdict for one in self.figures}
        return next(one for one in _WORST_FIRST if one in found)


def compared(name: str, ours: Sequence[Figures], theirs: Sequence[Figures]) -> Comparison:
    """One figure of as many rounds of both."""
    return Comparison(
        name=name,
        ours=tuple(getattr(one, name) for one in ours),
        theirs=tuple(getattr(one, name) for one in theirs),
    )


def agreement(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Agreement:
    """Judge as many rounds of both."""
    figures = tuple(compared(name, ours, theirs) for name in JUDGED)
    return Agreement(figures=figures, faults=tuple(_faults(ours, theirs)))


def chance_ratio(rounds: int) -> float:
    """How often a figure of two tools that are the same would have ranges that lie apart."""
    return 2 / comb(2 * rounds, rounds)


def _faults(ours: Sequence[Figures], theirs: Sequence[Figures]) -> list[str]:
    found = []
    for side, rounds in (("our client", ours), ("the judge", theirs)):
        failed = sum(one.failed for one in rounds)
        if failed:
            found.append(f"{failed:,.0f} requests of {side} failed: what was left is another load")
    for name, what in (("prompt_tokens", "prompts"), ("output_tokens", "answers")):
        pair = compared(name, ours, theirs)
        if abs(pair.ratio - 1) > TOKENS_RATIO_MAX:
            means = (median(pair.ours), median(pair.theirs))
            found.append(f"{what} have {means[0]:,.1f} tokens here and {means[1]:,.1f} there: two loads, not one")
    return found


def _spread_ratio(values: Sequence[float]) -> float:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return (high - low) / middle if middle else nan
