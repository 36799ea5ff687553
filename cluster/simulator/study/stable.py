"""The largest rate that a system keeps up with, found by running a trace faster and slower.

What must not live here: what a system is (system.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster.simulator.outcome import Fate, Record, Result

SERVED_MIN_RATIO = 0.99
"""Fewer answered requests than this is no service, however short its line is."""
GROWTH_MAX_RATIO = 0.02
"""Seconds by which waits may grow in a second. A line in front of a server that keeps up with a share x of what comes
grows by 1 - x; two hundredths are what the waves of a trace of ten minutes make by themselves."""
RATE_TOLERANCE_RATIO = 0.02
"""The bisection ends when it knows the rate this well: as well as stability itself is defined."""
DOUBLINGS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """Whether a run kept up, and by what that is told."""

    served_ratio: float
    growth_ratio: float
    """Seconds by which the mean wait, weighted with prompt tokens, grew in a second: by Little's law the backlog of
    prompt tokens grew so, whatever order a policy takes them in."""

    @property
    def is_stable(self) -> bool:
        """Whether both are within bounds."""
        return self.served_ratio >= SERVED_MIN_RATIO and self.growth_ratio <= GROWTH_MAX_RATIO


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
    end_s = max((record.arrived_s for record in result.outcomes), default=0.0)
    quarters: list[list[Record]] = [[], [], [], []]
    served = total = 0
    for record in result.outcomes:
        total += 1
        if record.fate is Fate.DONE:
            served += 1
            quarters[min(int(4 * record.arrived_s / end_s), 3) if end_s else 3].append(record)
    grown_s = _mean_wait_s(quarters[3]) - _mean_wait_s(quarters[1])
    return Stability(
        served_ratio=served / total if total else 1.0, growth_ratio=grown_s / (end_s / 2) if end_s else 0.0
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


def _mean_wait_s(records: Iterable[Record]) -> float:
    tokens = weighted = 0.0
    for record in records:
        tokens += record.prompt_tokens
        weighted += record.prompt_tokens * record.ttft_s
    return weighted / tokens if tokens else 0.0
