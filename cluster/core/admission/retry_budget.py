"""A bound on further attempts across requests, so that retries never multiply an overload.

The rule is that of Finagle's RetryBudget (K. Oliver, Retry Budgets, Finagle blog, February 2016): a share of the recent
requests, and beside it a minimum rate for times with little traffic. Theirs expires deposits one by one; here both
counts slide over `WINDOW_S` in steps of a second. What must not live here: which failures are worth an attempt, the
bound for one request (dispatch has both).
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 10
"""How far back requests count, as in Finagle: a failing replica is out of the leases by then."""
MIN_RETRIES_PER_S = 10
"""Granted whatever the traffic, as in Finagle. It lets a hundred requests that were in flight to a replica that dies
all be tried elsewhere."""


class RetryBudget:
    """Counts requests and further attempts of the last `WINDOW_S`, on a clock that is passed in."""

    def __init__(self) -> None:
        self._steps: deque[list[int]] = deque()
        """Second, requests in it, further attempts in it; at most `WINDOW_S` of them."""
        self._newest = [-WINDOW_S, 0, 0]
        self._requests = 0
        self._retries = 0

    def requested(self, now_s: float) -> None:
        """A request came; call it once for each, whatever becomes of it."""
        second = int(now_s)
        if second > self._newest[0]:
            self._begin(second)
        self._newest[1] += 1
        self._requests += 1

    def take(self, now_s: float, *, ratio: float) -> bool:
        """Whether one more attempt is within the budget; True takes it.

        Args:
            now_s: monotonic seconds.
            ratio: further attempts for each recent request, `limits.retry_ratio`; 0 allows none at all.
        """
        second = int(now_s)
        if second > self._newest[0]:
            self._begin(second)
        if ratio <= 0 or self._retries + 1 > ratio * self._requests + MIN_RETRIES_PER_S * WINDOW_S:
            return False
        self._newest[2] += 1
        self._retries += 1
        return True

    def _begin(self, second: int) -> None:
        """A new second has begun; those that left the window no longer count."""
        self._newest = [second, 0, 0]
        self._steps.append(self._newest)
        while self._steps[0][0] <= second - WINDOW_S:
            _, requests, retries = self._steps.popleft()
            self._requests -= requests
            self._retries -= retries
