"""Breakers: keep requests from an endpoint whose connections fail, and find out when it is back.

Only the transport counts: connecting, resets, timeouts. An answer of any kind, overload (429, 503) included, proves
that the endpoint is there. Times are passed in, in seconds on any monotonic clock. What must not live here: clocks,
health from leases.
"""

from __future__ import annotations

from enum import Enum

from cluster.core.lease import ReplicaId

FAILURES_TO_OPEN = 3
"""In a row. One failure is chance and two are bad luck; each costs some request an attempt."""
FAILURE_WINDOW_S = 10.0
"""In which they must lie: failures minutes apart have causes of their own."""
COOL_DOWN_S = 5.0
"""Before one request is let through: a lease outlives its replica by 4 s, so what is still there may be well again."""
TRIAL_S = 30.0
"""After which another is let through when the first told nothing: a client may give up while its prompt is read."""


class BreakerState(Enum):
    """How a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """The next request is the trial."""


class Breaker:
    """One endpoint's breaker."""

    __slots__ = ("_failed_s", "_is_open", "_retry_s")

    def __init__(self) -> None:
        self._failed_s: list[float] = []
        """When the latest failures in a row happened; at most `FAILURES_TO_OPEN`."""
        self._is_open = False
        self._retry_s = 0.0

    def state(self, now_s: float) -> BreakerState:
        """Whether requests may go there: all, none, or one."""
        if not self._is_open:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now_s >= self._retry_s else BreakerState.OPEN

    def started(self, now_s: float) -> None:
        """A request goes there; through a half-open breaker it is the only one until it tells."""
        if self.state(now_s) is BreakerState.HALF_OPEN:
            self._retry_s = now_s + TRIAL_S

    def failed(self, now_s: float) -> None:
        """The transport failed: no connection, a reset, a timeout."""
        since_s = now_s - FAILURE_WINDOW_S
        self._failed_s = [failed_s for failed_s in self._failed_s if failed_s > since_s][1 - FAILURES_TO_OPEN :]
        self._failed_s.append(now_s)
        if self._is_open or len(self._failed_s) >= FAILURES_TO_OPEN:
            self._is_open = True
            self._retry_s = now_s + COOL_DOWN_S

    def answered(self) -> None:
        """An answer came, whatever its status."""
        self._failed_s = []
        self._is_open = False


class Breakers:
    """The breakers of all endpoints; those that never fail cost nothing.

    Each method that can change a state returns whether requests are now kept away, for `EndpointTable.set_breaker`.
    """

    __slots__ = ("_breakers",)

    def __init__(self) -> None:
        self._breakers: dict[ReplicaId, Breaker] = {}

    def has(self, replica_id: ReplicaId) -> bool:
        """Whether this endpoint failed lately."""
        return replica_id in self._breakers

    def started(self, replica_id: ReplicaId, now_s: float) -> bool:
        """A request goes to this endpoint."""
        breaker = self._breakers.get(replica_id)
        if breaker is None:
            return False
        breaker.started(now_s)
        return breaker.state(now_s) is BreakerState.OPEN

    def failed(self, replica_id: ReplicaId, now_s: float) -> bool:
        """Its transport failed."""
        breaker = self._breakers.setdefault(replica_id, Breaker())
        breaker.failed(now_s)
        return breaker.state(now_s) is BreakerState.OPEN

    def answered(self, replica_id: ReplicaId) -> bool:
        """It answered, whatever the status."""
        self._breakers.pop(replica_id, None)
        return False

    def forget(self, replica_id: ReplicaId) -> None:
        """It is gone."""
        self._breakers.pop(replica_id, None)

    def states(self, now_s: float) -> dict[ReplicaId, BreakerState]:
        """Every endpoint that failed lately; ask now and then, to let the trial through when the time has come."""
        return {replica_id: breaker.state(now_s) for replica_id, breaker in self._breakers.items()}
