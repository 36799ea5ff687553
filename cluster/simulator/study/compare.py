"""One system at one rate, and one against another.

What must not live here: choosing systems (search.py), rates (study.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from cluster.core.autoscaling import ServiceLevel
from cluster.simulator.report.metrics import BandFigures, Figures, figures_of
from cluster.simulator.study.stable import Stability, stability_of
from cluster.simulator.study.system import System
from cluster.simulator.trace import Trace
from cluster.simulator.traces import faster

SHORT_GAIN_MIN = 5.0
"""The target: TTFT p99 of short prompts, so many times lower than the reference's."""
LONG_RATIO_MAX = 1.25
"""With that of the longest prompts no more than so many times the reference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a system makes of a rate."""

    system: System
    figures: Figures
    stability: Stability

    @property
    def name(self) -> str:
        """The system's."""
        return self.system.name

    @property
    def short_s(self) -> float:
        """TTFT p99 of prompts under 4,096 tokens; infinite where more than one of a hundred was not served."""
        short = self.figures.short
        return short.ttft_s.p99 if short is not None else 0.0

    @property
    def longest(self) -> BandFigures:
        """Prompts of 32,768 tokens or more; where the trace has none, the longest band that it has."""
        figures = self.figures
        return figures.long if figures.long.requests or not figures.bands else figures.bands[-1]

    @property
    def long_s(self) -> float:
        """TTFT p99 of the longest prompts."""
        return self.longest.ttft_s.p99


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One system against another at the same rate."""

    short_gain: float
    """How many times lower TTFT p99 of short prompts is."""
    long_ratio: float
    """TTFT p99 of long prompts, as a multiple of the other's."""

    @property
    def is_met(self) -> bool:
        """Whether the target is."""
        return self.short_gain >= SHORT_GAIN_MIN and self.long_ratio <= LONG_RATIO_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs systems on one trace."""

    trace: Trace
    level: ServiceLevel
    seed: int
    ideal_tokens: int
    ran: Callable[[], None]
    """Told of every run, for progress."""

    def standing(self, system: System, factor: float) -> Standing:
        """Of a system at so many times the trace's rate."""
        trace = faster(self.trace, factor)
        result = system.run(trace, seed=self.seed)
        self.ran()
        figures = figures_of(result, trace, level=self.level, ideal_tokens=self.ideal_tokens)
        return Standing(system=system, figures=figures, stability=stability_of(result))


def verdict(ours: Standing, reference: Standing) -> Verdict:
    """How one stands against another."""
    return Verdict(short_gain=_ratio(reference.short_s, ours.short_s), long_ratio=_ratio(ours.long_s, reference.long_s))


def frontier(standings: Sequence[Standing]) -> list[Standing]:
    """Those that nobody else is better than in short and in long prompts at once, the best for short ones first."""
    best: list[Standing] = []
    for standing in sorted(standings, key=lambda one: (one.short_s, one.long_s)):
        if not best or standing.long_s < best[-1].long_s:
            best.append(standing)
    return best


def choose(standings: Sequence[Standing], reference: Standing) -> Standing:
    """Of those that meet the target, the one with the most requests within the service level.

    Where none does, the one that serves short prompts best among those whose long ones wait no longer than they may;
    where there is none of these either, the one that misses the two bounds least.

    Raises:
        ValueError: there is nothing to choose from.
    """
    verdicts = [(standing, verdict(standing, reference)) for standing in standings]
    meeting = [standing for standing, found in verdicts if found.is_met]
    if meeting:
        return max(meeting, key=lambda standing: standing.figures.every.good_ratio)
    fair = [(standing, found) for standing, found in verdicts if found.long_ratio <= LONG_RATIO_MAX]
    if fair:
        return max(fair, key=lambda entry: entry[1].short_gain)[0]
    return min(verdicts, key=lambda entry: _miss(entry[1]))[0]


def _miss(found: Verdict) -> float:
    """How far off the farther of the two bounds is."""
    short = SHORT_GAIN_MIN / found.short_gain if found.short_gain else inf
    return max(short, found.long_ratio / LONG_RATIO_MAX)


def _ratio(over: float, under: float) -> float:
    if over == under:
        return 1.0
    if under == 0 or over == inf:
        return inf
    return over / under
