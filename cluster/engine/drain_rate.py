"""How fast a replica finishes requests, and so when it is worth asking again.

What must not live here: whether a request is taken (gate.py).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

DRAIN_WINDOW_S = 30.0
"""How far back finished requests count: several generations of short ones, and a change of traffic is soon noticed."""
RETRY_AFTER_MIN_S = 1
RETRY_AFTER_MAX_S = 60
"""Long prompts take longer, but whoever waits a minute should look again."""
FINISHES_MAX = 1024
"""Finish times kept; with more of them in the window, Retry-After is its minimum anyway."""


class DrainRate:
    """Counts what finishes since the replica was last idle.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_since_s = clock()
        self._finished_s: deque[float] = deque(maxlen=FINISHES_MAX)

    def became_busy(self) -> None:
        """The first request after idle time: rates of before say nothing about now."""
        self._busy_since_s = self._clock()
        self._finished_s.clear()

    def finished(self) -> None:
        """A request left, whatever became of it: its place is free."""
        self._finished_s.append(self._clock())

    @property
    def retry_after_s(self) -> int:
        """Seconds until a place is probably free.

        The mean time between finished requests of the last `DRAIN_WINDOW_S`; while none has finished, as long again
        as the replica has been busy, for want of better knowledge (Lindy's rule).
        """
        now_s = self._clock()
        while self._finished_s and now_s - self._finished_s[0] > DRAIN_WINDOW_S:
            self._finished_s.popleft()
        busy_s = now_s - self._busy_since_s
        expected_s = min(busy_s, DRAIN_WINDOW_S) / len(self._finished_s) if self._finished_s else busy_s
        return min(max(math.ceil(expected_s), RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)
