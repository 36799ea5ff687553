"""What comes for a pool, a second, and what will come: from the differences of counters.

Differences are kept in bins. A step begins a new regime, and what was before counts no more; within a regime a trend is
believed as far as noise does not explain it. What must not live here: replicas.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from cluster.core.autoscaling.demand import Arrivals

BIN_S = 1.0
"""Gateways tell their counts about once a second: shorter bins would measure their rhythm."""
WINDOW_MIN_S = 30.0
WINDOW_MAX_S = 120.0
"""A regime is looked back on for the time looked ahead, within these: below, noise rules; above, a trend is old."""
BINS_MAX = int(WINDOW_MAX_S / BIN_S)
GROWTH_MAX_RATIO = 2.0
"""The forecast is at most twice what comes now. What more than doubles within a start-up time is a step, not a trend,
and no trend knows where a step ends; so what a wrong forecast costs is at most what is in use anyway."""
TREND_SIGMAS = 2.0
"""A slope counts by what is left of it after so many of its standard errors: of stationary noise, one in 40 slopes."""
TREND_BINS_MIN = 8
STEP_BINS_MAX = 5
"""A step is looked for in so many latest bins: one that nobody saw in these is no step but a trend."""
STEP_SIGMAS = 4.0
STEP_MIN_RATIO = 0.25
"""And it must change the rate by this part: smaller ones are averaged in."""
TRUSTED_REQUESTS = 10
"""Fewer tell of no rate: until so many came in a regime, it is taken to be as long as the window, else a single prompt
after a quiet time would look like one every second."""
LENGTH_SPREAD = 2.7
"""E[L²] / E[L]² of prompt lengths, measured in Mooncake's conversations (Azure's: 1.9): how far tokens swing more than
requests."""


class Rates(NamedTuple):
    """A second."""

    requests: float
    prefill_tokens: float


class Forecast(NamedTuple):
    """What comes now, and at a horizon; the latter is never less: falling traffic is believed when it has fallen."""

    now: Rates
    ahead: Rates


class _Bin(NamedTuple):
    end_s: float
    width_s: float
    requests: int
    tokens: int


class _Line(NamedTuple):
    """A rate over time, by least squares."""

    middle_s: float
    mean: float
    slope: float
    slope_error: float
    noise: float
    """Variance of a bin's rate around it, times its width."""

    def at(self, moment_s: float) -> float:
        return max(self.mean + self.slope * (moment_s - self.middle_s), 0.0)


class Traffic:
    """One pool's arrivals. The same report told again changes nothing."""

    def __init__(self) -> None:
        self._bins: deque[_Bin] = deque(maxlen=BINS_MAX)
        self._open: tuple[float, Arrivals] | None = None

    def add(self, now_s: float, arrivals: Arrivals) -> None:
        """Take in the counters as of `now_s`."""
        if self._open is None:
            self._open = now_s, arrivals
            return
        since_s, before = self._open
        requests, tokens = arrivals.requests - before.requests, arrivals.prefill_tokens - before.prefill_tokens
        if now_s < since_s or requests < 0 or tokens < 0:
            self._open = now_s, arrivals
        elif now_s - since_s >= BIN_S:
            self._bins.append(_Bin(now_s, now_s - since_s, requests, tokens))
            self._open = now_s, arrivals
            self._begin_regime()

    def forecast(self, horizon_s: float) -> Forecast | None:
        """Rates now, and `horizon_s` later; None before the first second is over."""
        if not self._bins:
            return None
        last_s = self._bins[-1].end_s
        window_s = min(max(horizon_s, WINDOW_MIN_S), WINDOW_MAX_S)
        bins = [one for one in self._bins if one.end_s > last_s - window_s]
        requests = _outlook(bins, [one.requests for one in bins], window_s, horizon_s)
        tokens = _outlook(bins, [one.tokens for one in bins], window_s, horizon_s)
        return Forecast(Rates(requests[0], tokens[0]), Rates(requests[1], tokens[1]))

    def _begin_regime(self) -> None:
        """Forget what was before the clearest step among the latest bins."""
        bins = list(self._bins)
        clearest, at = 1.0, None
        for latest in range(1, min(STEP_BINS_MAX, len(bins) - TREND_BINS_MIN) + 1):
            clearness = _step_clearness(bins[:-latest], bins[-latest:])
            if clearness > clearest:
                clearest, at = clearness, latest
        if at is not None:
            self._bins = deque(bins[-at:], maxlen=BINS_MAX)


def _step_clearness(older: Sequence[_Bin], newer: Sequence[_Bin]) -> float:
    """How far the newer bins lie off what the older ones foretold, 1 being just enough for a step; 0: not enough."""
    width_s = sum(one.width_s for one in newer)
    middle_s = newer[-1].end_s - width_s / 2
    requests = sum(one.requests for one in newer)
    tokens = sum(one.tokens for one in newer)
    line = _fit(older, [one.requests for one in older])
    expected = line.at(middle_s) * width_s
    if max(requests, expected) < TRUSTED_REQUESTS:
        return 0.0
    token_line = _fit(older, [one.tokens for one in older])
    expected_tokens = token_line.at(middle_s) * width_s
    length = max(tokens, expected_tokens) / max(requests, expected)
    return max(
        _clearness(requests, expected, max(line.noise * width_s, expected)),
        _clearness(tokens, expected_tokens, max(token_line.noise * width_s, LENGTH_SPREAD * length * expected_tokens)),
    )


def _clearness(found: float, expected: float, variance: float) -> float:
    off = abs(found - expected)
    return 0.0 if off < STEP_MIN_RATIO * expected else off / (STEP_SIGMAS * math.sqrt(variance) or 1.0)


def _outlook(bins: Sequence[_Bin], amounts: Sequence[int], window_s: float, horizon_s: float) -> tuple[float, float]:
    requests = sum(one.requests for one in bins)
    span_s = sum(one.width_s for one in bins)
    untold = max(1 - requests / TRUSTED_REQUESTS, 0.0)
    mean = sum(amounts) / max(span_s, untold * window_s)
    if untold or len(bins) < TREND_BINS_MIN:
        return mean, mean
    line = _fit(bins, amounts)
    sure = math.copysign(max(abs(line.slope) - TREND_SIGMAS * line.slope_error, 0.0), line.slope)
    now = max(mean + sure * (bins[-1].end_s - line.middle_s), 0.0)
    return now, min(now + max(sure, 0.0) * horizon_s, GROWTH_MAX_RATIO * now)


def _fit(bins: Sequence[_Bin], amounts: Sequence[int]) -> _Line:
    """Least squares of the bins' rates, weighed by their widths."""
    width_s = sum(one.width_s for one in bins)
    middles = [one.end_s - one.width_s / 2 for one in bins]
    middle_s = sum(at * one.width_s for at, one in zip(middles, bins, strict=True)) / width_s
    mean = sum(amounts) / width_s
    spread = sum(one.width_s * (at - middle_s) ** 2 for at, one in zip(middles, bins, strict=True))
    slope = 0.0
    if spread > 0:
        slope = sum(amount * (at - middle_s) for amount, at in zip(amounts, middles, strict=True)) / spread
    residue = sum(
        one.width_s * (amount / one.width_s - mean - slope * (at - middle_s)) ** 2
        for one, amount, at in zip(bins, amounts, middles, strict=True)
    )
    # Weighed by width, as the rate of a bin twice as wide has half the variance.
    noise = residue / max(len(bins) - 2, 1)
    return _Line(middle_s, mean, slope, math.sqrt(noise / spread) if spread > 0 else 0.0, noise)
