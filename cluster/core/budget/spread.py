"""How far truth has lain from the estimate, and the interval that follows.

Conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005): errors of prompts to
come lie among errors of prompts that were, as long as neither is special. Each error is taken before its prompt was
learned from, so it is an honest one. Where the wanted quantile is rarer than anything observed, the tail is taken as
exponential beyond a threshold (peaks over threshold; Pickands 1975). What must not live here: features, tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

WINDOW = 1_024
"""Errors kept: 8 KiB. More would see rarer errors, and hold on longer to those of a text that is gone."""
LEAST_ERRORS = 64
"""Fewer say nothing of a tail."""
MISS_RATIO = 0.001
"""Prompts whose length the interval may miss, both ends together."""
TAIL_RATIO = 0.05
"""Share of errors at each end that the tail is fitted to: 51 of a full window."""
YOUTH_STRETCH = 5.0
"""A tail fitted to few errors is itself unsure: ends are stretched by 1 + this / sqrt(errors): 1.6 at the least number
of errors, 1.16 with a full window. Without, 0.3% of the mixed set were missed, with it 0.06% (docs/decisions/0013)."""
REFRESH_EVERY = 16
"""Errors between two sorts of the window (0.1 ms each); one outside the interval widens it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An interval of log(true tokens / estimated tokens)."""

    low: float
    high: float

    def around(self, error: float) -> Span:
        """This span, stretched to hold `error`."""
        return Span(low=min(self.low, error), high=max(self.high, error))

    def times(self, factor: float) -> Span:
        """This span, `factor` times as wide on both sides of 0."""
        return Span(low=self.low * factor, high=self.high * factor)


class Spread:
    """The last errors of one kind of prompt."""

    def __init__(self) -> None:
        self._errors = array("d")
        self._next = 0
        self._since_refresh = 0
        self._is_old = False
        self._span: Span | None = None

    @property
    def span(self) -> Span | None:
        """Where the next error will lie, but for `MISS_RATIO`; None while too little is known."""
        return self._span

    def add(self, error: float) -> None:
        """Take in the log error of one more prompt."""
        if len(self._errors) < WINDOW:
            self._errors.append(error)
        else:
            self._errors[self._next] = error
            self._next = (self._next + 1) % WINDOW
        self._since_refresh += 1
        if len(self._errors) < LEAST_ERRORS:
            self.stretch(error)
            return
        if self._span is None or self._is_old or self._since_refresh >= REFRESH_EVERY:
            self._since_refresh, self._is_old = 0, False
            ordered = sorted(self._errors)
            stretch = 1 + YOUTH_STRETCH / sqrt(len(ordered))
            low = -_end([-error for error in reversed(ordered)])
            self._span = Span(low=low * stretch, high=_end(ordered) * stretch)
        self._span = self._span.around(error)

    def forget(self) -> None:
        """Start over; the span stays until enough is known again."""
        del self._errors[:]
        self._next = 0
        self._is_old = True

    def stretch(self, error: float) -> None:
        """Hold `error` too until the next refresh."""
        if self._span is not None:
            self._span = self._span.around(error)


def _end(ordered: Sequence[float]) -> float:
    """The upper end of ascending errors: the largest seen, or the tail's quantile where that lies beyond."""
    size = len(ordered)
    beyond = max(int(size * TAIL_RATIO), 3)
    threshold = ordered[size - beyond - 1]
    mean_excess = sum(ordered[size - beyond :]) / beyond - threshold
    quantile = threshold + mean_excess * log(beyond / size / (MISS_RATIO / 2))
    return max(quantile, ordered[-1], 0.0)
