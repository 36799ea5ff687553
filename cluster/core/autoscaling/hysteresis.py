"""When fewer replicas may be ordered: not before fewer have done for a while.

An idle replica costs its time, a new one its start, and nobody knows which comes: the ski rental problem. Keeping it
for as long as a start takes, and then letting it go, costs at most twice what knowing the future would (Karlin and
others 1988; for servers Lu, Chen and Andrew 2013). What a replica's cache is worth is added to the price of a start.
What must not live here: why so many are needed.
"""

from __future__ import annotations

from collections import deque

WINDOW_MIN_S = 15.0
"""Replicas that start within a second still need a window longer than the gaps of ordinary traffic."""
WARM_MAX_STARTS = 3.0
"""A cache postpones a step by at most so many start-up times: residency tells what is held, not what will be read."""
PATIENCE_MAX = 8.0
"""A replica that is ordered again within the window after one was let go shows that the window was too short for this
traffic's noise: it doubles, up to so many times, and halves with each step down that was none to regret."""
MARGIN_RATIO = 0.05
"""Fewer must do for so much more traffic too: else a need close to a whole number would order up and down by turns."""
SHORT_RATIO = 0.05
"""And to be so little short of what is needed is not worth a replica: noise in what comes is no less."""


class Hysteresis:
    """The most that was needed lately, of one pool."""

    def __init__(self) -> None:
        self._peaks: deque[tuple[float, int]] = deque()
        """Falling numbers, each with when it was last needed; so there are never more of them than replicas."""
        self._since_s: float | None = None
        self._replicas: int | None = None
        self._fell_s: float | None = None
        self._patience = 1.0

    def add(self, now_s: float, replicas: int) -> None:
        """At `now_s` so many would have done; told twice of one moment, the larger number counts."""
        if self._since_s is None or now_s < self._since_s:
            self._since_s = now_s
            self._peaks.clear()
        while self._peaks and self._peaks[-1][1] <= replicas:
            self._peaks.pop()
        self._peaks.append((now_s, replicas))

    def window_s(self, now_s: float, replicas: int, startup_s: float, recompute_s: float) -> float:
        """How long fewer must have done, as of `now_s`.

        Args:
            now_s: the moment.
            replicas: so many there are; only whether they become more or fewer counts.
            startup_s: what a start takes.
            recompute_s: what computing the contents of one replica's cache again would take, as far as they are read.
        """
        start_s = max(startup_s, WINDOW_MIN_S)
        price_s = start_s + min(recompute_s, WARM_MAX_STARTS * start_s)
        before, self._replicas = self._replicas, replicas
        if self._fell_s is not None:
            if now_s - self._fell_s > self._patience * price_s:
                self._patience, self._fell_s = max(self._patience / 2, 1.0), None
            elif before is not None and replicas > before:
                self._patience, self._fell_s = min(self._patience * 2, PATIENCE_MAX), None
        if before is not None and replicas < before:
            self._fell_s = now_s
        return self._patience * price_s

    def least(self, now_s: float, window_s: float) -> int | None:
        """So many have always done within the window; None: it is not that long ago that counting began."""
        if self._since_s is None or now_s - self._since_s < window_s:
            return None
        return next((replicas for at_s, replicas in self._peaks if at_s >= now_s - window_s), None)
