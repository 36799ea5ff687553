"""The waiting queue, for every traffic there is: nobody is lost, nobody overtakes, shares follow the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.admission.band import Band
from cluster.core.admission.fair_queue import FairQueue
from cluster.core.admission.lane import AGED_TURNS
from cluster.core.admission.share import TENANT_SHARE
from cluster.core.admission.ticket import Accepted, Full, Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority, TenantName

NEVER_S = math.inf
LADDER = (PoolName("short"), PoolName("long"), PoolName("huge"))
"""Pools by size: who fits one fits all larger ones."""


def ticket(
    tenant: str = "a",
    *,
    priority: Priority = Priority.NORMAL,
    home: int = 0,
    cost: int = 1,
    weight: float = 1.0,
    arrived_s: float = 0.0,
) -> Ticket:
    return Ticket(
        tenant=TenantName(tenant),
        pools=LADDER[home:],
        cost_tokens=cost,
        arrived_s=arrived_s,
        weight=weight,
        priority=priority,
    )


TICKETS = st.builds(
    ticket,
    st.sampled_from("abcde"),
    priority=st.sampled_from(Priority),
    home=st.integers(0, 2),
    cost=st.integers(0, 200_000),
)
BACK = TICKETS.map(lambda one: replace(one, is_back=True))
STEPS = st.lists(st.one_of(TICKETS, BACK, st.sampled_from(LADDER), st.integers(0, 1_000)), max_size=120)
"""Somebody comes, a place is free in a pool, somebody who waits is cancelled."""


@given(steps=STEPS, capacity=st.integers(0, 20), aged_after_s=st.sampled_from([0.0, 30.0, NEVER_S]))
def test_the_bound_holds_and_nobody_is_lost_or_overtaken(
    steps: list[Ticket | PoolName | int], capacity: int, aged_after_s: float
) -> None:
    queue = FairQueue()
    waiting: list[Ticket] = []
    for now_s, step in enumerate(steps):
        if isinstance(step, Ticket):
            pushed = queue.push(step, capacity=capacity)
            if isinstance(pushed, Accepted):
                waiting.append(step)
                if pushed.displaced is not None:
                    assert not pushed.displaced.is_back
                    waiting.remove(pushed.displaced)
            else:
                assert not step.is_back
                assert sum(not other.is_back for other in waiting) == capacity
        elif isinstance(step, int):
            if waiting:
                cancelled = waiting.pop(step % len(waiting))
                assert queue.remove(cancelled)
                assert not queue.remove(cancelled)
        else:
            popped = queue.pop(step, lambda _: True, now_s=now_s, aged_after_s=aged_after_s)
            able = [other for other in waiting if step in other.pools]
            # Work conservation: a free place stays empty only when nobody who waits could use it.
            assert (popped is None) == (not able)
            if popped is not None:
                # Those who were cancelled or displaced are never served.
                assert popped in waiting
                line = [other for other in waiting if other.home == popped.home]
                back = [other for other in line if other.is_back]
                own = [other for other in line if (other.tenant, other.priority) == (popped.tenant, popped.priority)]
                # Those that had their turn go first, whatever their class.
                assert (back or own)[0] is popped
                if any(other.home == step for other in able):
                    assert popped.home == step
                if aged_after_s == NEVER_S and not back:
                    assert popped.priority == min(other.priority for other in line)
                waiting.remove(popped)
        assert len(queue) == len(waiting)
        assert sum(not other.is_back for other in waiting) <= capacity
        assert {priority: queue.length(priority) for priority in Priority} == {
            priority: sum(other.priority == priority for other in waiting) for priority in Priority
        }
        assert all((other in queue) for other in waiting)
    # What is left comes out to the last one.
    served = sum(queue.pop(LADDER[2], lambda _: True, now_s=0, aged_after_s=aged_after_s) is not None for _ in waiting)
    assert served == len(waiting)
    assert len(queue) == 0
    assert queue.pools == frozenset()


ARRIVALS = st.tuples(st.integers(0, 4), st.integers(1, 200_000))
"""Which tenant, what work."""


class Ledger:
    """What two tenants were given while both had something waiting: theorem 1 of the paper, watched as it goes."""

    def __init__(self, weights: list[float]) -> None:
        self.band = Band()
        self.waiting: list[Ticket] = []
        self._weights = weights
        self._given: dict[str, float] = defaultdict(float)
        self._largest: dict[str, float] = defaultdict(float)
        self._gaps: dict[tuple[str, str], tuple[float, float]] = {}
        """Lowest and highest difference of work by weight in the stretch in which both wait."""

    def come(self, who: int, cost: int) -> None:
        index = who % len(self._weights)
        fresh = ticket(str(index), cost=cost, weight=self._weights[index])
        self._largest[fresh.tenant] = max(self._largest[fresh.tenant], fresh.work)
        self.waiting.append(fresh)
        self.band.push(fresh)

    def cancel(self, which: int) -> None:
        if self.waiting:
            self.band.remove(self.waiting.pop(which % len(self.waiting)))

    def serve(self) -> None:
        popped, _ = self.band.pick(lambda _: True, 1)
        assert (popped is None) == (not self.waiting)
        if popped is not None:
            self.waiting.remove(popped)
            self._given[popped.tenant] += popped.work

    def check(self) -> None:
        backlogged = {other.tenant for other in self.waiting}
        for pair in combinations(map(str, range(len(self._weights))), 2):
            if not set(pair) <= backlogged:
                self._gaps.pop(pair, None)
                continue
            gap = self._given[pair[0]] - self._given[pair[1]]
            low, high = self._gaps.get(pair, (gap, gap))
            self._gaps[pair] = low, high = min(low, gap), max(high, gap)
            assert high - low <= (self._largest[pair[0]] + self._largest[pair[1]]) * (1 + 1e-9)


@given(
    weights=st.lists(st.floats(0.1, 100), min_size=2, max_size=5),
    first=st.lists(ARRIVALS, max_size=40),
    later=st.lists(st.one_of(ARRIVALS, st.integers(0, 1_000), st.none()), max_size=80),
)
def test_tenants_that_wait_get_work_by_their_weights(
    weights: list[float], first: list[tuple[int, int]], later: list[tuple[int, int] | int | None]
) -> None:
    # Whatever arrives and is cancelled in between: never more apart than one largest request of each.
    ledger = Ledger(weights)
    for who, cost in first:
        ledger.come(who, cost)
    for step in later:
        if isinstance(step, tuple):
            ledger.come(*step)
        elif isinstance(step, int):
            ledger.cancel(step)
        else:
            ledger.serve()
        ledger.check()


@given(
    weights=st.tuples(st.floats(0.5, 20), st.floats(0.5, 20)),
    costs=st.tuples(st.integers(1, 5_000), st.integers(1, 5_000)),
)
def test_long_run_shares_of_two_tenants_are_their_weights(weights: tuple[float, float], costs: tuple[int, int]) -> None:
    queue = FairQueue()
    work = {"a": 0.0, "b": 0.0}
    for name, weight, cost in zip("ab", weights, costs, strict=True):
        for _ in range(3):
            queue.push(ticket(name, weight=weight, cost=cost), capacity=100)
    for _ in range(300):
        popped = queue.pop(LADDER[0], lambda _: True, now_s=0, aged_after_s=NEVER_S)
        assert popped is not None
        work[popped.tenant] += popped.cost_tokens
        index = "ab".index(popped.tenant)
        queue.push(ticket(popped.tenant, weight=weights[index], cost=costs[index]), capacity=100)
    gap = abs(work["a"] / weights[0] - work["b"] / weights[1])
    assert gap <= costs[0] / weights[0] + costs[1] / weights[1] + 1e-6


@given(flooders=st.integers(1, 20), depth=st.integers(1, 30), served_before=st.integers(0, 40))
def test_a_newcomer_waits_for_one_request_of_each_other_tenant(flooders: int, depth: int, served_before: int) -> None:
    queue = FairQueue()
    for number in range(flooders * depth):
        queue.push(ticket(f"flood{number % flooders}"), capacity=1_000)
    for _ in range(min(served_before, flooders * depth)):
        queue.pop(LADDER[0], lambda _: True, now_s=0, aged_after_s=NEVER_S)
    newcomer = ticket("newcomer")
    estimate = queue.ahead_of(newcomer)
    queue.push(newcomer, capacity=1_000)
    others = 0
    while queue.pop(LADDER[0], lambda _: True, now_s=0, aged_after_s=NEVER_S) is not newcomer:
        others += 1
    assert others <= flooders
    assert estimate <= flooders


@given(
    above=st.sampled_from([Priority.HIGH, Priority.NORMAL]),
    tenants=st.integers(1, 5),
    lows=st.integers(1, 5),
    aged_after_s=st.floats(0.5, 20),
    gap_s=st.floats(0.01, 5),
)
def test_an_aged_low_request_is_served_whatever_floods_above_it(
    above: Priority, tenants: int, lows: int, aged_after_s: float, gap_s: float
) -> None:
    queue = FairQueue()
    for _ in range(lows):
        queue.push(ticket("poor", priority=Priority.LOW), capacity=1_000)
    turns = math.ceil(aged_after_s / gap_s) + lows * AGED_TURNS
    served = []
    for turn in range(turns + 1):
        now_s = turn * gap_s
        queue.push(ticket(f"rich{turn % tenants}", priority=above, arrived_s=now_s), capacity=1_000)
        popped = queue.pop(LADDER[0], lambda _: True, now_s=now_s, aged_after_s=aged_after_s)
        assert popped is not None
        served.append(popped.priority)
        if popped.priority is Priority.LOW:
            assert now_s >= aged_after_s
            # The higher class keeps the rest of the turns.
            assert Priority.LOW not in served[:-1][-(AGED_TURNS - 1) :]
    assert served.count(Priority.LOW) == lows


@given(entries=st.lists(TICKETS, max_size=60), newcomer=TICKETS, capacity=st.integers(1, 20))
def test_who_gives_way_has_less_right_to_a_place(entries: list[Ticket], newcomer: Ticket, capacity: int) -> None:
    queue = FairQueue()
    waiting: list[Ticket] = []
    for entry in entries:
        pushed = queue.push(entry, capacity=capacity)
        if isinstance(pushed, Accepted):
            waiting.append(entry)
            if pushed.displaced is not None:
                waiting.remove(pushed.displaced)
    held = {tenant: sum(other.tenant == tenant for other in waiting) for tenant in (TenantName(n) for n in "abcde")}
    share = max(1, int(capacity * TENANT_SHARE))
    pushed = queue.push(newcomer, capacity=capacity)
    if isinstance(pushed, Full):
        assert len(waiting) == capacity
        # Nobody of a lower class, and nobody over the share, stayed in the way of a tenant that holds less.
        if held[newcomer.tenant] < share:
            assert max(other.priority for other in waiting) <= newcomer.priority
            assert max(held.values()) <= share
        return
    victim = pushed.displaced
    if len(waiting) < capacity:
        assert victim is None
        return
    assert victim is not None
    assert victim not in queue
    later = waiting[waiting.index(victim) + 1 :]
    assert not any((other.tenant, other.priority) == (victim.tenant, victim.priority) for other in later)
    if victim.tenant == newcomer.tenant or held[victim.tenant] <= share:
        assert victim.priority >= newcomer.priority
    if victim.tenant != newcomer.tenant:
        assert held[newcomer.tenant] < share
        # No ping-pong: the displaced does not get its place back from the newcomer.
        again = queue.push(victim, capacity=capacity)
        assert isinstance(again, Full) or again.displaced is not newcomer
