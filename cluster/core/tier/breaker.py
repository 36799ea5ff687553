"""The breaker around Redis: after a failure nobody waits for it, and one trial now and then finds out when it is back.

Unlike an endpoint's breaker (cluster/core/routing/breaker.py) it opens at the first failure: a request that does
without Redis only computes its prompt, which is cheaper than a second wait. Times are passed in, in seconds on any
monotonic clock. What must not live here: clocks, locks.
"""

from __future__ import annotations

from cluster.core.routing.breaker import BreakerState

COOL_DOWN_S = 2.0
"""Before the first trial: a restart of Redis takes about as long."""
COOL_DOWN_MAX_S = 30.0
"""A trial costs one transfer its deadline; every half minute that is nothing."""
TRIAL_S = 10.0
"""After which another trial is let through when the first told nothing."""


class TierBreaker:
    """Whether Redis is worth asking; each failed trial doubles the pause before the next."""

    __slots__ = ("_cool_down_s", "_has_trial", "_is_open", "_retry_s", "opened")

    def __init__(self) -> None:
        self._is_open = self._has_trial = False
        self._retry_s = 0.0
        self._cool_down_s = COOL_DOWN_S
        self.opened = 0
        """How often it opened, for the metrics."""

    def state(self, now_s: float) -> BreakerState:
        """Whether Redis may be asked: freely, not at all, or once."""
        if not self._is_open:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now_s >= self._retry_s else BreakerState.OPEN

    def admits(self, now_s: float) -> bool:
        """Whether to ask Redis now; where it is half-open, the one who asks is the trial."""
        state = self.state(now_s)
        if state is BreakerState.HALF_OPEN:
            self._has_trial = True
            self._retry_s = now_s + TRIAL_S
        return state is not BreakerState.OPEN

    def failed(self, now_s: float) -> None:
        """Redis did not answer: no connection, a reset, a timeout, or an answer that makes no sense.

        Transfers that were under way when it opened fail as well; they are no trials and do not lengthen the pause.
        """
        if not self._is_open:
            self._is_open = True
            self.opened += 1
            self._cool_down_s = COOL_DOWN_S
        elif self._has_trial:
            self._cool_down_s = min(2 * self._cool_down_s, COOL_DOWN_MAX_S)
        else:
            return
        self._has_trial = False
        self._retry_s = now_s + self._cool_down_s

    def answered(self) -> None:
        """Redis answered."""
        self._is_open = self._has_trial = False
