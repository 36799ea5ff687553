"""How many requests come for a pool a second, and how many will: from the differences of a counter.

Differences are kept in bins. A step begins a new regime, and what was before counts no more; within a regime a trend is
believed as far as noise does not explain it. Requests only: their lengths swing far more and change more slowly
(mix.py). What must not live here: replicas.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

BIN_S = 1.0
"""Gateways tell their counts about once a second: shorter bins would measure their rhythm."""
WINDOW_MIN_S = 30.0
WINDOW_MAX_S = 120.0
"""A regime is looked back on for the time looked ahead, within these: below, noise rules; above, a trend is old."""
FEW_REQUESTS = 30
FEW_WINDOW_MAX_S = 600.0
"""A window with fewer than `FEW_REQUESTS`, whose rate would be more than 18% off (standard error), reaches further
back, up to this: three long prompts an hour must not be a load in one minute and none in the next."""
BINS_MAX = int(FEW_WINDOW_MAX_S / BIN_S)
GROWTH_MAX_RATIO = 2.0
"""The forecast is at most twice what comes now. What more than doubles within a start-up time is a step, not a trend,
and no trend knows where a step ends; so what a wrong forecast costs is at most what is in use anyway."""
TREND_SIGMAS = 1.0
"""A slope counts by what is left of it after so many of its standard errors: of stationary noise that is one upward
slope in six, and little of it; more would follow a real rise too late."""
TREND_BINS_MIN = 15
"""In fewer, one lucky second at an end makes a slope."""
STEP_BINS_MAX = 5
"""A step is looked for in so many latest bins: one that nobody saw in these is no step but a trend."""
STEP_OLDER_MIN = 8
"""And against at least so many before them."""
STEP_OLDER_MAX = int(WINDOW_MAX_S / BIN_S)
STEP_SIGMAS = 4.0
STEP_MIN_RATIO = 0.25
"""And it must change the rate by this part: smaller ones are averaged in."""
PARTIAL_BINS = 3
"""The step fell somewhere within its first bin, which is left out when so many others are there."""
TRUSTED_REQUESTS = 10
"""Fewer tell of no rate: until so many came in a regime, it is taken to be as long as the window, else a single prompt
after a quiet time would look like one every second."""


class Forecast(NamedTuple):
    """Requests a second: now, and at a horizon. The latter is never less: fewer are believed when fewer come."""

    now: float
    ahead: float


class _Bin(NamedTuple):
    end_s: float
    middle_s: float
    width_s: float
    requests: int


class Traffic:
    """One pool's arrivals. The same count told again changes nothing."""

    def __init__(self) -> None:
        self._bins: deque[_Bin] = deque(maxlen=BINS_MAX)
        self._open: tuple[float, int] | None = None
        self._begins_partly = False
        self._told: tuple[float, Forecast] | None = None
        """The latest forecast and its horizon; it holds until the next bin."""

    def add(self, now_s: float, requests: int) -> None:
        """Take in the counter as of `now_s`; less than before means that counting began again."""
        if self._open is None:
            self._open = now_s, requests
            return
        since_s, before = self._open
        if requests < before:
            self._open = now_s, requests
        elif now_s - since_s >= BIN_S:
            self._bins.append(_Bin(now_s, (since_s + now_s) / 2, now_s - since_s, requests - before))
            self._open = now_s, requests
            self._told = None
            self._look_for_step()

    def forecast(self, horizon_s: float) -> Forecast:
        """Rates now, and `horizon_s` later; none before the first second is over."""
        if self._told is None or self._told[0] != horizon_s:
            self._told = horizon_s, self._forecast(horizon_s)
        return self._told[1]

    def _forecast(self, horizon_s: float) -> Forecast:
        if not self._bins:
            return Forecast(0.0, 0.0)
        window_s = min(max(horizon_s, WINDOW_MIN_S), WINDOW_MAX_S)
        last_s = self._bins[-1].end_s
        bins, requests, span_s = self._latest(window_s)
        untold = max(1 - requests / TRUSTED_REQUESTS, 0.0)
        if untold or len(bins) < TREND_BINS_MIN:
            mean = requests / max(span_s, untold * window_s)
            return Forecast(mean, mean)
        line = _fit(bins)
        slope = math.copysign(max(abs(line.slope) - TREND_SIGMAS * line.slope_error, 0.0), line.slope)
        now = max(line.mean + slope * (last_s - line.middle_s), 0.0)
        # No further ahead than it has been seen.
        return Forecast(now, min(now + max(slope, 0.0) * min(horizon_s, span_s), GROWTH_MAX_RATIO * now))

    def _latest(self, window_s: float) -> tuple[list[_Bin], int, float]:
        """The bins that count, how many requests they have, and how long they are together."""
        bins, requests, span_s = list[_Bin](), 0, 0.0
        for one in reversed(self._bins):
            if span_s >= window_s and (requests >= FEW_REQUESTS or span_s >= FEW_WINDOW_MAX_S):
                break
            bins.append(one)
            requests += one.requests
            span_s += one.width_s
        bins.reverse()
        return bins, requests, span_s

    def _look_for_step(self) -> None:
        """Forget what was before the clearest step among the latest bins."""
        bins = list(self._bins)
        latest = min(STEP_BINS_MAX, len(bins) - STEP_OLDER_MIN)
        clearest, begin = 1.0, None
        if latest > 0:
            older = _fit(bins[-latest - STEP_OLDER_MAX : -latest])
            for at in range(len(bins) - latest, len(bins)):
                clearness = _clearness(older, bins[at:])
                if clearness > clearest:
                    clearest, begin = clearness, at
        if begin is not None:
            self._bins = deque(bins[begin:], maxlen=BINS_MAX)
            self._begins_partly = True
        elif self._begins_partly and len(bins) > PARTIAL_BINS:
            self._bins.popleft()
            self._begins_partly = False


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


def _clearness(line: _Line, newer: Sequence[_Bin]) -> float:
    """How far the newer bins lie off what the older ones foretold, 1 being just enough for a step."""
    width_s = sum(one.width_s for one in newer)
    requests = sum(one.requests for one in newer)
    expected = line.at(newer[-1].end_s - width_s / 2) * width_s
    off = abs(requests - expected)
    if max(requests, expected) < TRUSTED_REQUESTS or off < STEP_MIN_RATIO * expected:
        return 0.0
    # The root of a Poisson count has a deviation of 1/2 whatever its mean is (Anscombe); noisier traffic has more.
    excess = max(line.noise * width_s / expected, 1.0) if expected > 0 else 1.0
    return 2 * abs(math.sqrt(requests) - math.sqrt(expected)) / (STEP_SIGMAS * math.sqrt(excess))


def _fit(bins: Sequence[_Bin]) -> _Line:
    """Least squares, weighed by the bins' widths: the rate of one twice as wide has half the variance."""
    width_s = requests = moment = 0.0
    for one in bins:
        width_s += one.width_s
        requests += one.requests
        moment += one.middle_s * one.width_s
    mean, middle_s = requests / width_s, moment / width_s
    spread = tilt = total = 0.0
    for one in bins:
        off_s, above = one.middle_s - middle_s, one.requests / one.width_s - mean
        spread += one.width_s * off_s * off_s
        tilt += one.width_s * off_s * above
        total += one.width_s * above * above
    if spread <= 0:
        return _Line(middle_s, mean, 0.0, 0.0, total)
    slope = tilt / spread
    noise = max(total - slope * tilt, 0.0) / max(len(bins) - 2, 1)
    return _Line(middle_s, mean, slope, math.sqrt(noise / spread), noise)
