"""The policy as Ray Serve calls it: once for each pool, in Serve's controller, some eight times a second.

Serve pickles this module by value and everything it imports by name, so the controller needs this program installed.
What must not live here: the policy itself (cluster/core/autoscaling), reading anything (watch.py).
"""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import replace
from typing import Any

from cluster.control.watch import DemandWatch, Seen
from cluster.core.autoscaling.gather import Gatherer
from cluster.core.autoscaling.policy import PoolAutoscaler
from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.autoscaling.target import ServiceLevel, Target
from cluster.core.lease import PoolName
from cluster.environment import read_environment
from cluster.state.login import StateServer

STALE_S = 5.0
"""What was read longer ago is no ground to order or end replicas: leases would have lapsed meanwhile."""
FAULT_LOG_S = 60.0
"""A fault that comes eight times a second is told this often."""


class PoolPolicy:
    """One pool's autoscaling policy: a class for `AutoscalingPolicy(policy_function=…)`.

    Args:
        pool: its name.
        cluster: the cluster's name.
        target: `min_replicas`, `max_replicas`, `idle_s` and the fields of `ServiceLevel`.
        state: the fields of `StateServer`; it names where the password is.
    """

    def __init__(self, pool: str, cluster: str, target: dict[str, Any], state: dict[str, Any]) -> None:
        self._log = logging.getLogger("ray.serve.longreach")
        self._pool = PoolName(pool)
        self._ray_cluster = read_environment().ray_cluster
        level = {name: value for name, value in target.items() if name in ServiceLevel.__dataclass_fields__}
        rest = {name: value for name, value in target.items() if name not in level}
        self._target = Target(level=ServiceLevel(**level), **rest)
        self._policy = PoolAutoscaler(self._target)
        self._gatherer: Gatherer | None = None
        self._decided_on: Seen | None = None
        self._replicas = 0
        self._fault_s = float("-inf")
        watch = DemandWatch(StateServer(**state), cluster, self._pool)
        watch.start()
        self._watch = watch
        # Serve makes a new policy whenever a pool's settings change, and lets go of the old one without a word.
        weakref.finalize(self, watch.stop)

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """How many replicas there are to be, by Serve's `AutoscalingContext`; never raises, never waits."""
        target_replicas = int(context.target_num_replicas)
        try:
            return self._decide(target_replicas), {}
        except Exception:  # noqa: BLE001 - a policy is a root: what it raises would end Serve's control loop
            now_s = time.monotonic()
            if now_s - self._fault_s >= FAULT_LOG_S:
                self._fault_s = now_s
                self._log.exception("longreach pool=%s policy failed, %d replicas stay", self._pool, target_replicas)
            return target_replicas, {}

    def _decide(self, target_replicas: int) -> int:
        seen = self._watch.seen
        if seen is None or time.monotonic() - seen.at_s > STALE_S:
            return target_replicas
        if seen is self._decided_on:
            return self._replicas
        gatherer = self._gatherer
        if gatherer is None:
            before = None if seen.before is None else seen.before.demand
            gatherer = self._gatherer = Gatherer(self._pool, ray_cluster=self._ray_cluster, before=before)
        if self._policy.target.pinned != seen.pinned:
            self._policy.target = replace(self._target, pinned=seen.pinned)
        demand = gatherer.demand(seen.leases, seen.gateways, target=target_replicas, now_s=seen.at_s)
        decision = self._policy.decide(demand)
        gatherer.startup.ordered(target_replicas, decision.replicas, seen.at_s)
        self._decided_on, self._replicas = seen, decision.replicas
        ordered_s, now_s = gatherer.startup.oldest_order_s, time.time()
        record = AutoscaleRecord(
            written_s=now_s,
            min_replicas=self._target.min_replicas,
            max_replicas=self._target.max_replicas,
            pinned=seen.pinned,
            demand=demand,
            decision=decision,
            ordered_s=None if ordered_s is None else now_s - (time.monotonic() - ordered_s),
        )
        past = None
        if decision.replicas != target_replicas:
            past = PastDecision(written_s=now_s, decision=decision)
            self._log.info(
                "longreach pool=%s replicas=%d were=%d bound=%s reason=%s",
                self._pool, decision.replicas, target_replicas, decision.bound.value, decision.reason,
            )  # fmt: skip
        self._watch.tell(record, past)
        return decision.replicas
