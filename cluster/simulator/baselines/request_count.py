"""Ray Serve's default autoscaling: so many requests a replica, whatever they are.

Ray 2.60, serve/autoscaling_policy.py (`replica_queue_length_autoscaling_policy`, `_apply_delay_logic`) with the
defaults of `AutoscalingConfig`: the mean of ongoing requests over the last 30 s, running and queued, over
`target_ongoing_requests` and rounded up; more only after 30 s in which more were wanted without a pause, fewer after
600 s. It is kinder than Serve in one thing: counts are there at once, where Serve's are pushed every 10 s. What must
not live here: starting and stopping (fleet.py).
"""

from __future__ import annotations

from collections import deque
from math import ceil

from cluster.core.autoscaling import Bound, Decision, PoolDemand, Target
from cluster.core.lease import PoolName

ONGOING_REQUESTS = 2.0
"""`target_ongoing_requests`, Serve's default."""
LOOK_BACK_S = 30.0
"""`look_back_period_s`."""
UPSCALE_DELAY_S = 30.0
DOWNSCALE_DELAY_S = 600.0
NEARLY = 1e-9
"""Of a replica: a mean of floats must not order one."""


class RequestCountScaler:
    """A `Scaler`; one for each run."""

    def __init__(self, *, ongoing_requests: float = ONGOING_REQUESTS) -> None:
        """Nothing is known yet.

        Args:
            ongoing_requests: wanted at each replica, queued ones included.

        Raises:
            ValueError: none are.
        """
        if ongoing_requests <= 0:
            raise ValueError(f"{ongoing_requests:g} ongoing requests a replica: give more than 0")
        self._ongoing_requests = ongoing_requests
        self._pools: dict[PoolName, _Memory] = {}

    def decide(self, demand: PoolDemand, target: Target) -> Decision:
        """As `Scaler` says."""
        memory = self._pools.setdefault(demand.pool, _Memory())
        current = demand.ready + demand.starting
        ongoing = memory.mean(demand.now_s, demand.running + demand.waiting + demand.held)
        wanted = ongoing / self._ongoing_requests
        desired = max(ceil(wanted - NEARLY) if demand.ready else current, 1)
        replicas = min(max(memory.delayed(demand.now_s, desired, current), target.min_replicas), target.max_replicas)
        return Decision(
            pool=demand.pool,
            at_s=demand.now_s,
            replicas=replicas,
            current=current,
            needed_now=wanted,
            needed_ahead=wanted,
            bound=Bound.UNKNOWN,
            reason=f"{ongoing:.1f} requests, {self._ongoing_requests:g} a replica: {desired}",
        )


class _Memory:
    """Of one pool: what was ongoing lately, and since when another number is wanted."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()
        self._direction = 0
        self._since_s = 0.0

    def mean(self, now_s: float, ongoing: int) -> float:
        self._counts.append((now_s, ongoing))
        while self._counts[0][0] < now_s - LOOK_BACK_S:
            self._counts.popleft()
        return sum(count for _, count in self._counts) / len(self._counts)

    def delayed(self, now_s: float, desired: int, current: int) -> int:
        """The desired number once it has lain on one side of the current one for as long as Serve waits."""
        direction = (desired > current) - (desired < current)
        if direction != self._direction:
            self._direction, self._since_s = direction, now_s
        delay_s = UPSCALE_DELAY_S if direction > 0 else DOWNSCALE_DELAY_S
        if not direction or now_s - self._since_s < delay_s:
            return current
        self._direction = 0
        return desired
