"""The event loop: requests arrive, replicas step, report, start and die, and a router decides in between.

Events are tuples in one heap, by time and then by the order in which they were made, so that equal seeds give equal
runs. What must not live here: any decision about a request (router.py), what a replica does (replica.py).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from enum import IntEnum
from math import isnan
from typing import Any

from cluster.core.lease import LEASE_RENEW_S, LEASE_TTL_S
from cluster.simulator.batch import Running
from cluster.simulator.cluster import ClusterSpec
from cluster.simulator.fleet import Fleet, Unit
from cluster.simulator.outcome import Fate, Outcomes
from cluster.simulator.router import Report, Router
from cluster.simulator.trace import Trace, TraceRequest

REPORT_PHASES = 10
"""Replicas renew their leases each at its own time; here in so many groups, one after the other."""
_KEY_MASK = 2**63 - 1


class _Event(IntEnum):
    STRETCH = 0
    ENTER = 1
    CALL = 2
    REPORT = 3
    GONE = 4
    """A dead replica's lease has run out."""


class World:
    """One run; a `Desk` for its router."""

    def __init__(self, trace: Trace, cluster: ClusterSpec, router: Router, *, seed: int) -> None:
        self.now_s = 0.0
        self.rng = random.Random(seed)  # noqa: S311 - a simulation
        self.events = 0
        requests = trace.requests
        self.outcomes = Outcomes([one.arrival_s for one in requests], [one.prompt_tokens for one in requests])
        self.open = len(requests)
        """Requests that have not ended."""
        self._requests = requests
        self.block_tokens = trace.block_tokens
        self._keys: dict[int, tuple[int, ...]] = {}
        self._router = router
        self._heap: list[tuple[float, int, int, Any, Any]] = []
        self._made = 0
        self._pending = 0
        """Events in the heap that do not come by the clock alone."""
        self._reporting: list[list[Unit]] = [[] for _ in range(REPORT_PHASES)]
        self.fleet = Fleet(self, cluster, router, block_tokens=trace.block_tokens)

    # What a router sees and does.

    def request(self, number: int) -> TraceRequest:
        """As `Desk` says."""
        return self._requests[number]

    def keys(self, number: int) -> tuple[int, ...]:
        """As `Desk` says."""
        found = self._keys.get(number)
        if found is None:
            one = self._requests[number]
            key, keys = 0, []
            for block in one.blocks[: one.prompt_tokens // self.block_tokens]:
                key = hash((key, block)) & _KEY_MASK
                keys.append(key)
            found = self._keys[number] = tuple(keys)
        return found

    def send(self, number: int, replica: int, *, priority: int = 0) -> bool:
        """As `Desk` says."""
        unit = self.fleet.units[replica]
        request, spec = self._requests[number], unit.spec
        if unit.load >= spec.max_running + spec.max_queued:
            return False
        unit.load += 1
        use = self.fleet.use[unit.pool.name]
        use.sent_requests += 1
        use.sent_tokens += request.prompt_tokens
        outcomes = self.outcomes
        outcomes.sent_s[number] = self.now_s
        outcomes.pool[number] = unit.pool_index
        outcomes.replica[number] = replica
        one = Running(
            number,
            prompt=request.prompt_tokens,
            output=max(request.output_tokens, 1),
            keys=self.keys(number),
            arrived_s=self.now_s,
            priority=priority,
        )
        entry_s = spec.entry_s + spec.entry_token_s * request.prompt_tokens
        self._push(self.now_s + entry_s, _Event.ENTER, unit, one)
        return True

    def refuse(self, number: int, fate: Fate) -> None:
        """As `Desk` says."""
        self._end(number, fate)

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        """As `Desk` says."""
        self._push(max(at_s, self.now_s), _Event.CALL, callback, None)

    # What the fleet asks for.

    def call_regularly(self, at_s: float, callback: Callable[[], None]) -> None:
        """Have something done that does not keep the run going by itself."""
        self._push(at_s, _Event.CALL, callback, self)
        self._pending -= 1

    def serves(self, unit: Unit) -> None:
        """A replica takes requests from now on."""
        self._reporting[unit.number % REPORT_PHASES].append(unit)
        self._router.joined(unit.number, unit.pool.name)

    def dies(self, unit: Unit) -> None:
        """A replica is gone with what it has; whoever routes by leases believes in it until its lease runs out."""
        unit.is_alive = False
        lost = list(unit.engine.everybody())
        for one in lost:
            self._fail(unit, one)
        self._push(self.now_s + LEASE_TTL_S, _Event.GONE, unit, None)

    def drains(self, unit: Unit) -> None:
        """A replica takes nothing new."""
        self._reporting[unit.number % REPORT_PHASES].remove(unit)
        self._router.left(unit.number)

    def run(self, progress: Callable[[int], None] | None = None, *, until_s: float | None = None) -> None:
        """Until every request has ended, nothing more will happen, or `until_s`."""
        router, requests, heap, pop = self._router, self._requests, self._heap, heapq.heappop
        for phase in range(REPORT_PHASES):
            self._push(LEASE_RENEW_S * phase / REPORT_PHASES, _Event.REPORT, phase, None)
            self._pending -= 1
        self.fleet.open()
        next_number, count = 0, len(requests)
        next_s = requests[0].arrival_s if requests else None
        while self.open and (next_s is not None or self._pending):
            if next_s is not None and next_s <= heap[0][0]:
                self.now_s = next_s
                if until_s is not None and next_s > until_s:
                    break
                number, next_number = next_number, next_number + 1
                next_s = requests[next_number].arrival_s if next_number < count else None
                router.arrived(number)
                if progress is not None and not next_number & 0xFFF:
                    progress(next_number)
                continue
            at_s, _, kind, first, second = pop(heap)
            if until_s is not None and at_s > until_s:
                break
            self.now_s = at_s
            self._happen(kind, first, second)
            self.events += 1
        self.events += next_number

    def _happen(self, kind: int, first: Any, second: Any) -> None:
        if kind == _Event.REPORT:
            self._report(first)
            return
        if kind == _Event.CALL and second is not None:
            first()
            return
        self._pending -= 1
        if kind == _Event.STRETCH:
            # A stretch that was cut short has left an event behind.
            if first.is_alive and first.engine.until_s == self.now_s:
                self._advance(first)
        elif kind == _Event.ENTER:
            self._enter(first, second)
        elif kind == _Event.CALL:
            first()
        else:
            self._reporting[first.number % REPORT_PHASES].remove(first)
            self._router.left(first.number)

    def _push(self, at_s: float, kind: _Event, first: Any, second: Any) -> None:
        self._made += 1
        self._pending += 1
        heapq.heappush(self._heap, (at_s, self._made, kind, first, second))

    def _advance(self, unit: Unit) -> None:
        engine, router, now_s = unit.engine, self._router, self.now_s
        unit.is_changed = True
        answered, ended = engine.advance()
        until_s = engine.until_s
        if until_s is not None:
            self._push(until_s, _Event.STRETCH, unit, None)
        for one in answered:
            self.outcomes.first_token_s[one.number] = now_s
            router.answered(one.number, unit.number)
        for one in ended:
            unit.load -= 1
            use = self.fleet.use[unit.pool.name]
            use.answers += 1
            use.answer_tokens += one.output
            self._account(one, one.output)
            self._end(one.number, Fate.DONE)
            router.ended(one.number, unit.number)
        if unit.is_draining and not unit.load:
            self.fleet.emptied(unit)

    def _enter(self, unit: Unit, one: Running) -> None:
        if not unit.is_alive:
            self._fail(unit, one)
            return
        unit.is_changed = True
        engine = unit.engine
        if engine.enter(one, self.now_s):
            until_s = engine.until_s
            assert until_s is not None
            self._push(until_s, _Event.STRETCH, unit, None)

    def _fail(self, unit: Unit, one: Running) -> None:
        unit.load -= 1
        self._account(one, 0)
        if not isnan(self.outcomes.first_token_s[one.number]):
            self._end(one.number, Fate.LOST)
            self._router.ended(one.number, unit.number)
        else:
            self._router.failed(one.number, unit.number)

    def _account(self, one: Running, output_tokens: int) -> None:
        outcomes, number = self.outcomes, one.number
        outcomes.output_tokens[number] = output_tokens
        outcomes.cached_tokens[number] = max(one.cached, 0)
        outcomes.prefilled_tokens[number] += one.prefilled
        outcomes.preemptions[number] += one.preemptions

    def _end(self, number: int, fate: Fate) -> None:
        outcomes = self.outcomes
        if outcomes.fate[number] != Fate.OPEN:
            raise RuntimeError(f"request {number} ended twice: {Fate(outcomes.fate[number]).name}, then {fate.name}")
        outcomes.fate[number] = fate
        outcomes.ended_s[number] = self.now_s
        self._keys.pop(number, None)
        self.open -= 1

    def _report(self, phase: int) -> None:
        """Replicas of a phase renew their leases; one that did nothing since has nothing new to say."""
        now_s, reported = self.now_s, self._router.reported
        for unit in self._reporting[phase]:
            if not unit.is_alive:
                continue
            engine = unit.engine
            if not unit.is_changed and engine.until_s is None:
                continue
            unit.is_changed = False
            adds, removes = engine.kv.changes()
            reported(
                Report(
                    unit.number,
                    unit.pool.name,
                    engine.running,
                    engine.waiting,
                    engine.kv_use_ratio(now_s),
                    engine.prefill_tokens,
                    adds,
                    removes,
                )
            )
        self._push(now_s + LEASE_RENEW_S, _Event.REPORT, phase, None)
        self._pending -= 1
