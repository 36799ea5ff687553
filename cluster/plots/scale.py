"""Axes of plots: from values to pixels, and which values are written beside them.

What must not live here: drawing (svg.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

TICKS = 6
LOG_TICKS_MAX = 12
"""More numbers than this run into each other; then powers of ten alone are written."""
ROUND = (1.0, 2.0, 5.0)
NEARLY = 1e-9
"""What sums of floats are off by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows."""

    label: str
    is_log: bool = False
    is_from_zero: bool = True
    """Whether a linear axis begins at 0; one that does not shows differences, and no ratios."""
    is_snug: bool = False
    """Whether a linear axis ends where its values do, as time does, and not at the next round number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool

    def at(self, value: float) -> float:
        """The pixel of a value, within the axis."""
        low, high, place = self.low, self.high, value
        if self.is_log:
            low, high, place = log10(low), log10(high), log10(max(value, low))
        share = (place - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.is_log:
            every = [value for value in _rounds(self.low, self.high) if self._holds(value)]
            powers = [value for value in every if abs(log10(value) - round(log10(value))) < NEARLY]
            return every if len(every) <= LOG_TICKS_MAX or len(powers) < 2 else powers  # noqa: PLR2004 - a range
        step = _step(self.high - self.low)
        first = ceil(self.low / step - NEARLY)
        return [(first + count) * step for count in range(int((self.high - first * step) / step + NEARLY) + 1)]

    def _holds(self, value: float) -> bool:
        return self.low * (1 - NEARLY) <= value <= self.high * (1 + NEARLY)


def scale_of(values: Sequence[float], axis: Axis, begin: float, end: float) -> Scale:
    """An axis that holds these values, from one round number to another.

    Args:
        values: one or more; above 0 where the axis is logarithmic.
        axis: what it shows.
        begin: the pixel of its low end.
        end: of its high end.
    """
    low, high = min(values), max(values)
    if axis.is_log:
        low = max(value for value in _rounds(low, high) if value <= low * (1 + NEARLY))
        high = min(value for value in _rounds(low, high) if value >= high * (1 - NEARLY))
        return Scale(low=low, high=high if high > low else low * 10, begin=begin, end=end, is_log=True)
    if axis.is_from_zero:
        low = min(low, 0.0)
    if high <= low:
        high = low + 1.0
    if axis.is_snug:
        return Scale(low=low, high=high, begin=begin, end=end, is_log=False)
    step = _step(high - low)
    return Scale(
        low=floor(low / step + NEARLY) * step,
        high=ceil(high / step - NEARLY) * step,
        begin=begin,
        end=end,
        is_log=False,
    )


def _rounds(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times the powers of ten, from under one value to over another."""
    for power in range(floor(log10(low)) - 1, ceil(log10(high)) + 2):
        yield from (many * 10.0**power for many in ROUND)


def _step(span: float) -> float:
    power = 10.0 ** floor(log10(span / TICKS))
    return power * next(many for many in (*ROUND, 10.0) if span / (power * many) <= TICKS + NEARLY)
