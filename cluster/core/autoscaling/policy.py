"""The policy: from one demand after another to how many replicas a pool should have.

It orders what will be needed when a replica ordered now serves, at once and in one step; it lets replicas go when fewer
have done for a while, never below what the work at hand needs. What must not live here: any single sum (need.py,
staffing.py, traffic.py), the rule for letting go (hysteresis.py), clocks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from cluster.core.autoscaling.demand import PoolDemand, PoolSpeed
from cluster.core.autoscaling.hysteresis import MARGIN_RATIO, SHORT_RATIO, Hysteresis
from cluster.core.autoscaling.mix import Mix
from cluster.core.autoscaling.need import Need, Outlook, needs, queue_age
from cluster.core.autoscaling.target import Bound, Decision, Target
from cluster.core.autoscaling.traffic import Traffic

STARTUP_UNKNOWN_S = 60.0
"""Until a start was measured: 50 to 110 s were, on CPU."""
NEARLY = 1e-6
"""Of a replica: sums of floats must not order one."""


class PoolAutoscaler:
    """One pool's policy and its memory. Told the same demand again, it answers the same."""

    def __init__(self, target: Target) -> None:
        self.target = target
        """May be replaced at any time: what was seen stays."""
        self._traffic = Traffic()
        self._mix = Mix()
        self._hysteresis = Hysteresis()
        self._orders = _Orders()
        self._speed: PoolSpeed | None = None
        self._startup_s: float | None = None
        self._now_s = -math.inf
        self._busy_s = -math.inf
        """When there was last anything to do."""
        self._grown_s = -math.inf
        """When there were last more replicas than before."""
        self._ready: int | None = None
        self._has_come = False
        """Whether a request has come since the demand before."""
        self._window_s = 0.0

    def decide(self, demand: PoolDemand) -> Decision:
        """How many replicas the pool should have from now on.

        Args:
            demand: the pool now; one older than the last is taken as of then.
        """
        if demand.now_s < self._now_s:
            demand = replace(demand, now_s=self._now_s)
        self._remember(demand)
        current = demand.ready + demand.starting
        found = self._needs(demand)
        now = max((need.now for need in found), default=0.0)
        ahead = max(found, key=lambda need: need.ahead, default=None)
        needed_ahead = 0.0 if ahead is None else ahead.ahead
        replicas, bound, words = self._unbounded(demand, current, ahead, now)
        replicas, bound, words = self._bounded(replicas, bound, words)
        return Decision(
            pool=demand.pool,
            at_s=demand.now_s,
            replicas=replicas,
            current=current,
            needed_now=now,
            needed_ahead=needed_ahead,
            bound=bound,
            reason=words,
        )

    def _remember(self, demand: PoolDemand) -> None:
        now_s = self._now_s = demand.now_s
        self._traffic.add(now_s, demand.arrivals.requests)
        has_come = self._has_come = self._mix.add(demand)
        self._speed = demand.speed or self._speed
        self._startup_s = self._startup_s if demand.startup_s is None else demand.startup_s
        if has_come or math.isinf(self._busy_s) or demand.running or demand.waiting or demand.held:
            self._busy_s = now_s
        if self._ready is not None and demand.ready > self._ready:
            self._grown_s = now_s
        self._ready = demand.ready
        self._orders.count(now_s, demand.starting)
        self._window_s = self._hysteresis.window_s(
            now_s, demand.ready + demand.starting, self._horizon_s, self._recompute_s(demand)
        )

    def _needs(self, demand: PoolDemand) -> list[Need]:
        found: list[Need] = []
        outlook = self._outlook(demand)
        if outlook is not None:
            found += needs(outlook)
        level = self.target.level
        # A queue that is older than the latest replica is no proof that more are needed.
        if demand.oldest_wait_s < demand.now_s - self._grown_s:
            aged = queue_age(demand, level, found)
            found += [] if aged is None else [aged]
        # What fewer replicas must hold, for the way down: more traffic than there is.
        relaxed = needs(outlook.scaled(1 + MARGIN_RATIO)) if outlook is not None else ()
        most = max((max(need.now, need.ahead) for need in (*found, *relaxed)), default=None)
        if most is not None:
            self._hysteresis.add(demand.now_s, _whole(most))
        return found

    def _outlook(self, demand: PoolDemand) -> Outlook | None:
        if self._speed is None:
            return None
        horizon_s = self._horizon_s
        return Outlook(
            demand=demand,
            level=self.target.level,
            speed=self._speed,
            forecast=self._traffic.forecast(horizon_s),
            mix=self._mix,
            horizon_s=horizon_s,
            arriving_s=self._orders.arriving_s(demand.now_s, horizon_s),
        )

    @property
    def _horizon_s(self) -> float:
        return STARTUP_UNKNOWN_S if self._startup_s is None else self._startup_s

    def _unbounded(self, demand: PoolDemand, current: int, ahead: Need | None, now: float) -> tuple[int, Bound, str]:
        """What the work says, before the operator's bounds."""
        wanted = 0 if ahead is None else _whole(ahead.ahead)
        if ahead is not None and current and ahead.ahead <= current * (1 + SHORT_RATIO):
            wanted = min(wanted, current)
        if current == 0 and demand.held and wanted <= 1:
            return 1, Bound.HELD, f"held: {demand.held:,} requests wait for a pool without replicas: 1"
        if current == 0 and self._has_come and wanted <= 1:
            return 1, Bound.HELD, "asked: a larger pool serves what belongs to this one, which has no replica: 1"
        if self._is_idle(demand):
            return 0, Bound.IDLE, f"idle: no request for {demand.now_s - self._busy_s:.0f} s: 0"
        if ahead is None:
            return current, Bound.UNKNOWN, f"nothing is measured yet: {current} stay"
        if wanted >= current:
            return wanted, ahead.bound, ahead.words
        return self._fewer(demand, current, ahead, now)

    def _fewer(self, demand: PoolDemand, current: int, ahead: Need, now: float) -> tuple[int, Bound, str]:
        """How many of those that are not needed may go."""
        recompute_s, window = self._recompute_s(demand), self._window_s
        least = self._hysteresis.least(demand.now_s, window)
        if _whole(now) >= current:
            why = f"{ahead.words}; {current} stay: the work at hand would fill {_whole(now)}"
            return current, Bound.HYSTERESIS, why
        if least is None or least >= current:
            cache = f", {recompute_s:.0f} s of it for a cache," if recompute_s >= 1 else ""
            why = (
                f"{ahead.words}; {current} stay until fewer have done for {window:.0f} s{cache} with "
                f"{MARGIN_RATIO:.0%} to spare"
            )
            return current, Bound.HYSTERESIS, why
        if least == 0:
            why = f"{ahead.words}; 1 stays until there was no request for {self.target.idle_s:g} s"
            return 1, Bound.HYSTERESIS, why
        return least, ahead.bound, ahead.words

    def _bounded(self, replicas: int, bound: Bound, words: str) -> tuple[int, Bound, str]:
        target = self.target
        if target.pinned is not None:
            return target.pinned, Bound.PINNED, f"pinned to {target.pinned}; else {words}"
        if replicas > target.max_replicas:
            return target.max_replicas, Bound.MAX, f"{words}; at most {target.max_replicas} are allowed"
        if replicas < target.min_replicas:
            return target.min_replicas, Bound.MIN, f"{words}; at least {target.min_replicas} are asked for"
        return replicas, bound, words

    def _is_idle(self, demand: PoolDemand) -> bool:
        # What was ordered for one request is there for the next as well, which was told when to come back.
        coming_s = self._horizon_s if demand.starting and not demand.ready else 0.0
        return demand.now_s - max(self._busy_s, self._grown_s) >= self.target.idle_s + coming_s

    def _recompute_s(self, demand: PoolDemand) -> float:
        """What computing the reused part of a replica's cache again would take."""
        speed = self._speed
        if speed is None or speed.prefill_tokens_per_s <= 0:
            return 0.0
        return demand.resident_tokens * self._mix.reuse_ratio / speed.prefill_tokens_per_s


class _Orders:
    """When the replicas that are on their way were ordered, as far as their number tells."""

    def __init__(self) -> None:
        self._ordered_s: deque[float] = deque()

    def count(self, now_s: float, starting: int) -> None:
        """So many are on their way now: a higher number is new orders, a lower one the oldest having come."""
        while len(self._ordered_s) > starting:
            self._ordered_s.popleft()
        self._ordered_s.extend([now_s] * (starting - len(self._ordered_s)))

    def arriving_s(self, now_s: float, startup_s: float) -> Sequence[float]:
        """From now until each serves."""
        return [max(ordered_s + startup_s - now_s, 0.0) for ordered_s in self._ordered_s]


def _whole(replicas: float) -> int:
    return math.ceil(replicas - NEARLY)
