"""The replicas: which there are, those that start, those that die, and what the autoscaler makes of it.

Ray Serve's part, simplified: a replica that is ordered serves `startup_s` later; a dead one is replaced at once; on the
way down those that still start go first, then those with the fewest requests, the newest of equals; they finish what
they have. What must not live here: the policy (scaler.py), requests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol

from cluster.core.autoscaling import Arrivals, Decision, PoolDemand, PoolSpeed, SpeedMeter
from cluster.core.lease import PoolName, ReplicaId
from cluster.simulator.cluster import ClusterSpec, Failure, PoolSpec, ReplicaSpec
from cluster.simulator.outcome import PoolUse, Size
from cluster.simulator.replica import Replica
from cluster.simulator.router import Router
from cluster.simulator.scaler import Scaler


@dataclass(slots=True, kw_only=True, eq=False)
class Unit:
    """One replica as the cluster sees it."""

    number: int
    pool: PoolSpec
    pool_index: int
    engine: Replica
    ordered_s: float
    load: int = 0
    """Requests that were sent there and have not ended."""
    is_ready: bool = False
    is_alive: bool = True
    is_draining: bool = False
    is_changed: bool = False
    """Whether it has anything to report."""
    ended_s: float | None = None

    @property
    def spec(self) -> ReplicaSpec:
        """What it can do."""
        return self.pool.replica


class Stage(Protocol):
    """What the fleet needs of the event loop."""

    now_s: float
    rng: random.Random

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        """Have something done, on which requests may depend."""
        ...

    def call_regularly(self, at_s: float, callback: Callable[[], None]) -> None:
        """Have something done that does not keep the run going by itself."""
        ...

    def serves(self, unit: Unit) -> None:
        """A replica takes requests from now on."""
        ...

    def drains(self, unit: Unit) -> None:
        """A replica takes nothing new."""
        ...

    def dies(self, unit: Unit) -> None:
        """A replica is gone with what it has."""
        ...


class Fleet:
    """All replicas of a run, those that have ended included: a replica's number is its place in `units`."""

    def __init__(self, stage: Stage, cluster: ClusterSpec, router: Router, *, block_tokens: int) -> None:
        self.units: list[Unit] = []
        self.use = {pool.name: PoolUse() for pool in cluster.pools}
        self.sizes: list[Size] = []
        self.decisions: list[Decision] = []
        self.scaler: Scaler | None = None
        self._meters = {pool.name: SpeedMeter() for pool in cluster.pools}
        self._stage = stage
        self._cluster = cluster
        self._router = router
        self._block_tokens = block_tokens
        self._current: dict[PoolName, list[Unit]] = {pool.name: [] for pool in cluster.pools}
        """Ready or starting, in the order of their making."""

    def open(self) -> None:
        """The replicas of the beginning, and what will happen to them."""
        for index, pool in enumerate(self._cluster.pools):
            for _ in range(pool.replicas):
                self._serve(self._order(index, pool))
            self._note(pool)
        for failure in self._cluster.failures:
            self._stage.call_regularly(failure.at_s, lambda failure=failure: self._fail(failure))  # type: ignore[misc]
        if self._cluster.autoscale_every_s is not None and self.scaler is not None:
            self._stage.call_regularly(0.0, self._autoscale)

    def close(self) -> None:
        """The run is over: account for those that are left."""
        for unit in self.units:
            if unit.ended_s is None:
                self._account(unit)

    def emptied(self, unit: Unit) -> None:
        """A draining replica has finished what it had."""
        unit.is_alive = False
        self._account(unit)

    def _order(self, index: int, pool: PoolSpec) -> Unit:
        engine = Replica(pool.replica, chunk_tokens=self._block_tokens)
        unit = Unit(number=len(self.units), pool=pool, pool_index=index, engine=engine, ordered_s=self._stage.now_s)
        self.units.append(unit)
        self._current[pool.name].append(unit)
        return unit

    def _start(self, index: int, pool: PoolSpec) -> None:
        unit = self._order(index, pool)
        self._stage.call_at(self._stage.now_s + pool.startup_s, lambda: self._started(unit))

    def _started(self, unit: Unit) -> None:
        if unit.is_alive:
            self._serve(unit)
            self._note(unit.pool)

    def _serve(self, unit: Unit) -> None:
        unit.is_ready = True
        self._stage.serves(unit)

    def _fail(self, failure: Failure) -> None:
        ready = [unit for unit in self._current[failure.pool] if unit.is_ready]
        if not ready:
            return
        unit = self._stage.rng.choice(ready)
        self._current[failure.pool].remove(unit)
        self._account(unit)
        self._start(unit.pool_index, unit.pool)
        self._stage.dies(unit)
        self._note(unit.pool)

    def _autoscale(self) -> None:
        every_s, scaler = self._cluster.autoscale_every_s, self.scaler
        assert every_s is not None
        assert scaler is not None
        for index, pool in enumerate(self._cluster.pools):
            if pool.target is None:
                continue
            decision = scaler.decide(self._demand(pool), pool.target)
            change = decision.replicas - len(self._current[pool.name])
            for _ in range(change):
                self._start(index, pool)
            for _ in range(-change):
                self._stop(pool)
            if change:
                self.decisions.append(decision)
                self._note(pool)
        self._stage.call_regularly(self._stage.now_s + every_s, self._autoscale)

    def _stop(self, pool: PoolSpec) -> None:
        current = self._current[pool.name]
        unit = min(current, key=lambda unit: (unit.is_ready, unit.load, -unit.number))
        current.remove(unit)
        if unit.is_ready:
            unit.is_draining = True
            self._stage.drains(unit)
        if not unit.load:
            self.emptied(unit)

    def _demand(self, pool: PoolSpec) -> PoolDemand:
        """What production's snapshot would say; of one gateway, and without its delays."""
        now_s, use = self._stage.now_s, self.use[pool.name]
        current = self._current[pool.name]
        ready = [unit for unit in current if unit.is_ready]
        held = self._router.held(pool.name)
        arrived_s = min((unit.engine.oldest_arrival_s for unit in ready), default=now_s)
        return PoolDemand(
            pool=pool.name,
            now_s=now_s,
            ready=len(ready),
            starting=len(current) - len(ready),
            running=sum(unit.engine.running for unit in ready),
            waiting=sum(unit.engine.waiting for unit in ready),
            held=held.requests,
            oldest_wait_s=max(held.oldest_s, now_s - arrived_s, 0.0),
            prefill_tokens=held.prefill_tokens + sum(unit.engine.prefill_tokens for unit in ready),
            kv_use_ratio=sum(unit.engine.kv_use_ratio(now_s) for unit in ready) / max(len(ready), 1),
            arrivals=held.arrivals
            or Arrivals(
                requests=use.sent_requests,
                prefill_tokens=use.sent_tokens,
                answers=use.answers,
                output_tokens=use.answer_tokens,
            ),
            speed=self._speed(pool, ready),
            startup_s=pool.startup_s,
            resident_tokens=round(mean(unit.engine.kv.resident_chunks for unit in ready) * self._block_tokens)
            if ready
            else 0,
        )

    def _speed(self, pool: PoolSpec, ready: Sequence[Unit]) -> PoolSpeed | None:
        meter = self._meters[pool.name]
        for unit in ready:
            meter.observe(ReplicaId(str(unit.number)), unit.engine.tally.counters())
        return meter.speed(kv_tokens=pool.replica.kv_tokens, max_running=pool.replica.max_running)

    def _account(self, unit: Unit) -> None:
        self._meters[unit.pool.name].forget(ReplicaId(str(unit.number)))
        now_s = self._stage.now_s
        unit.ended_s = now_s
        use, tally = self.use[unit.pool.name], unit.engine.tally
        use.busy_s += tally.busy_s
        use.steps += tally.steps
        use.prefilled_tokens += tally.prefilled_tokens
        use.decoded_tokens += tally.decoded_tokens
        use.preemptions += tally.preemptions
        use.replica_s += now_s - unit.ordered_s
        use.gpu_s += (now_s - unit.ordered_s) * unit.pool.gpus

    def _note(self, pool: PoolSpec) -> None:
        current = self._current[pool.name]
        ready = sum(unit.is_ready for unit in current)
        self.sizes.append(Size(at_s=self._stage.now_s, pool=pool.name, ready=ready, starting=len(current) - ready))
