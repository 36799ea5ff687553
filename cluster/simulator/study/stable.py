"""The largest rate that a system keeps up with, found by running a trace faster and slower.

What must not live here: what a system is (system.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from cluster.simulator.outcome import Fate, Result

SERVED_MIN_RATIO = 0.99
"""Fewer answered requests than this is no service, however short its line is."""
GROWTH_MAX_RATIO = 0.02
"""Of the prompt tokens that come, those by which the backlog may grow: with x of them served, it grows by 1 - x. Two
hundredths are what the waves of a trace of ten minutes make by themselves."""
BACKLOG_MAX_S = 10.0
"""And the longest that the backlog may be, in seconds of what comes: the service level's queue age
(`ServiceLevel.queue_age_s`). A line that stays at a minute is stable to a mathematician, and no service."""
RATE_TOLERANCE_RATIO = 0.03
"""The bisection ends when it knows the rate this well: as well as stability itself is defined."""
DOUBLINGS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """Whether a run kept up, and by what that is told."""

    served_ratio: float
    growth_ratio: float
    """Prompt tokens without a first token, in the mean over the last quarter of the arrivals' time, less the same over
    the second quarter; of the prompt tokens that come in the half between the two. It does not depend on the order in
    which a policy takes them."""

    backlog_s: float
    """Prompt tokens without a first token, in the mean over the last quarter, in seconds of what comes: by Little's law
    the mean wait, weighted with prompt tokens."""

    @property
    def is_stable(self) -> bool:
        """Whether all are within bounds."""
        return (
            self.served_ratio >= SERVED_MIN_RATIO
            and self.growth_ratio <= GROWTH_MAX_RATIO
            and self.backlog_s <= BACKLOG_MAX_S
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Maximum:
    """A system's stable maximum, as a factor on the trace's own rate."""

    factor: float
    """The fastest that was stable; 0: not even the slowest that was tried."""
    unstable_factor: float
    """The slowest above it that was not."""
    runs: int


def stability_of(result: Result) -> Stability:
    """Compare the second quarter of a trace's time with the fourth."""
    outcomes = result.outcomes
    end_s = max(outcomes.arrived_s, default=0.0)
    if not end_s:
        return Stability(served_ratio=1.0, growth_ratio=0.0, backlog_s=0.0)
    served = tokens = 0
    early = late = 0.0
    for record in outcomes:
        served += record.fate is Fate.DONE
        tokens += record.prompt_tokens
        waited_until_s = record.first_token_s if isfinite(record.first_token_s) else record.arrived_s
        early += record.prompt_tokens * _overlap_s(record.arrived_s, waited_until_s, 0.25 * end_s, 0.5 * end_s)
        late += record.prompt_tokens * _overlap_s(record.arrived_s, waited_until_s, 0.75 * end_s, end_s)
    quarter_s = end_s / 4
    return Stability(
        served_ratio=served / len(outcomes),
        growth_ratio=(late - early) / quarter_s / (tokens / 2),
        backlog_s=late / quarter_s / (tokens / end_s),
    )


def stable_maximum(
    keeps_up: Callable[[float], bool], *, low: float = 0.25, tolerance_ratio: float = RATE_TOLERANCE_RATIO
) -> Maximum:
    """Bisect the factor on a trace's rate.

    Args:
        keeps_up: whether a system does at this factor.
        low: where to begin: doubled until the system does not keep up, halved until it does.
        tolerance_ratio: of the factor.

    Raises:
        ValueError: it keeps up with `low * 2**DOUBLINGS_MAX`, so the trace is no load for it.
    """
    runs = 1
    high = low
    if keeps_up(low):
        for _ in range(DOUBLINGS_MAX):
            high = low * 2
            runs += 1
            if not keeps_up(high):
                break
            low = high
        else:
            raise ValueError(f"keeps up even at {high:g} times the trace's rate: give fewer replicas or a longer trace")
    else:
        for _ in range(DOUBLINGS_MAX):
            low = high / 2
            runs += 1
            if keeps_up(low):
                break
            high = low
        else:
            return Maximum(factor=0.0, unstable_factor=high, runs=runs)
    while high / low > 1 + tolerance_ratio:
        middle = (high * low) ** 0.5
        runs += 1
        if keeps_up(middle):
            low = middle
        else:
            high = middle
    return Maximum(factor=low, unstable_factor=high, runs=runs)


def _overlap_s(begin_s: float, end_s: float, from_s: float, to_s: float) -> float:
    return max(0.0, min(end_s, to_s) - max(begin_s, from_s))
