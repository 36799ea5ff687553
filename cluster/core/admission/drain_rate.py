"""How fast waiting requests get their turn, measured, and what to tell those who are sent away.

Counted is what leaves a pool's line for an engine, and the time in which somebody stood in it. Time without a line says
nothing about how fast one would move: a pool that had little to do must not look slow. The rate is the quotient of two
exponentially decaying sums, completions and seconds. Each completion is spread evenly over the time since the one
before, so that a steady line has exactly its rate from the first completion on.
What must not live here: clocks, the queue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cluster.core.lease import PoolName

WINDOW_S = 30.0
"""Time constant of the average: several short answers, and a pool that was scaled up shows within one queue time."""
WINDOW_COMPLETIONS = 8
"""Where these take longer than `WINDOW_S`, they are the time constant: with a completion every 76 s a window of 30 s
would know one at most, and the rate would swing tenfold between two of them."""
RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 60
"""Whoever waits a minute should look again: by then a pool may have grown."""
RETRY_AFTER_UNKNOWN_S = 5
"""While nothing has left the line yet: a few short answers. A longer wait so far is a better guess, see
`DrainRate.retry_after_s`."""


@dataclass(slots=True)
class _Line:
    """Both sums as of the last completion, and the seconds in line since."""

    completions: float = 0.0
    busy_s: float = 0.0
    gap_s: float = 0.0
    """In line since the last completion, up to `since_s`."""
    since_s: float | None = None
    """None: nobody stands in line."""

    def stood_s(self, now_s: float) -> float:
        """Seconds in line since the last completion."""
        return self.gap_s + (0.0 if self.since_s is None else max(now_s - self.since_s, 0.0))

    def decayed(self, gap_s: float) -> tuple[float, float, float]:
        """Both sums after `gap_s` more in line without a completion, and what one spread over that time weighs."""
        window_s = max(WINDOW_S, WINDOW_COMPLETIONS * (self.busy_s + gap_s) / (self.completions + 1))
        gaps = gap_s / window_s
        kept, gone = math.exp(-gaps), -math.expm1(-gaps)
        return self.completions * kept, self.busy_s * kept + window_s * gone, gone / gaps if gaps > 0 else 1.0


class DrainRate:
    """Requests that leave each pool's line, per second in which there is one. One small record a pool."""

    def __init__(self) -> None:
        self._lines: dict[PoolName, _Line] = {}

    def began(self, pool: PoolName, now_s: float) -> None:
        """Somebody stands in line for `pool`; more of the same changes nothing."""
        line = self._lines.setdefault(pool, _Line())
        if line.since_s is None:
            line.since_s = now_s

    def left(self, pool: PoolName, now_s: float) -> None:
        """One of the line goes to an engine."""
        line = self._lines.setdefault(pool, _Line())
        completions, line.busy_s, weight = line.decayed(line.stood_s(now_s))
        line.completions = completions + weight
        line.gap_s = 0.0
        if line.since_s is not None:
            line.since_s = now_s

    def ended(self, pool: PoolName, now_s: float) -> None:
        """Nobody stands in line any more, for whatever reason."""
        line = self._lines.get(pool)
        if line is not None:
            line.gap_s = line.stood_s(now_s)
            line.since_s = None

    def per_s(self, pool: PoolName, now_s: float) -> float | None:
        """Requests a second; None while it is unknown because none has left the line yet."""
        line = self._lines.get(pool)
        if line is None or line.completions <= 0:
            return None
        completions, busy_s, _ = line.decayed(line.stood_s(now_s))
        return completions / busy_s if busy_s > 0 else None

    def wait_s(self, pool: PoolName, ahead: float, now_s: float) -> float | None:
        """Expected seconds until one with `ahead` others before it gets its turn; None: unknown."""
        rate = self.per_s(pool, now_s)
        # Long after the last completion the rate is too small for a float.
        return None if rate is None else (ahead + 1) / rate if rate > 0 else math.inf

    def retry_after_s(self, pool: PoolName, ahead: float, now_s: float) -> int:
        """The expected wait in whole seconds, in `RETRY_AFTER_MIN_S` to `RETRY_AFTER_MAX_S`.

        While nothing has left the line: as long again as it has stood still (Lindy's rule), and at least
        `RETRY_AFTER_UNKNOWN_S`.
        """
        expected_s = self.wait_s(pool, ahead, now_s)
        if expected_s is None:
            line = self._lines.get(pool)
            expected_s = max(RETRY_AFTER_UNKNOWN_S, line.stood_s(now_s) if line is not None else 0.0)
        return math.ceil(min(max(expected_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S))
