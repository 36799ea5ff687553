"""The waiting queue, case by case."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cluster.core.admission.band import STALE_MIN, Band
from cluster.core.admission.fair_queue import FairQueue
from cluster.core.admission.lane import LOOKS_MAX
from cluster.core.admission.ticket import Accepted, Full, Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority, TenantName

SHORT, LONG, OTHER = PoolName("short"), PoolName("long"), PoolName("other")
HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


def ticket(
    tenant: str = "a",
    priority: Priority = NORMAL,
    pools: tuple[PoolName, ...] = (SHORT, LONG),
    *,
    cost: int = 100,
    weight: float = 1.0,
) -> Ticket:
    return Ticket(
        tenant=TenantName(tenant),
        pools=pools,
        cost_tokens=cost,
        arrived_s=0.0,
        weight=weight,
        priority=priority,
    )


def filled(*tickets: Ticket, capacity: int = 100) -> FairQueue:
    queue = FairQueue()
    for each in tickets:
        queue.push(each, capacity=capacity)
    return queue


def pop(queue: FairQueue, pool: PoolName = SHORT) -> Ticket | None:
    return queue.pop(pool, lambda _: True, now_s=0.0, aged_after_s=math.inf)


def pop_all(queue: FairQueue, pool: PoolName = SHORT) -> list[Ticket]:
    return [popped for _ in range(len(queue)) if (popped := pop(queue, pool)) is not None]


def test_a_long_request_does_not_wait_behind_spilled_short_ones() -> None:
    spilled = [ticket(priority=HIGH) for _ in range(3)]
    long = ticket("b", LOW, (LONG,))
    assert pop_all(filled(*spilled, long), LONG) == [long, *spilled]


def test_a_line_that_cannot_move_does_not_block_another() -> None:
    stuck, other = ticket("a", HIGH), ticket("b", LOW, (OTHER,))
    queue = filled(stuck, other)
    assert pop(queue, OTHER) is other
    assert stuck in queue


def test_those_that_had_their_turn_do_not_hide_each_other() -> None:
    cut = [replace(ticket(), is_back=True) for _ in range(6)]
    turned_away, fresh = replace(ticket(), is_back=True), ticket(priority=HIGH)
    queue = filled(fresh, *cut, turned_away)
    picked = queue.pop(SHORT, lambda each: each not in cut, now_s=0.0, aged_after_s=math.inf)
    assert picked is turned_away
    assert pop(queue) is cut[0]


def test_those_behind_a_head_that_cannot_run_are_tried_and_it_keeps_its_place() -> None:
    head, second = ticket("a"), ticket("b")
    queue = filled(head, second)
    picked = queue.pop(SHORT, lambda each: each is not head, now_s=0.0, aged_after_s=math.inf)
    assert picked is second
    assert pop(queue) is head


def test_only_a_few_are_tried_for_one_place() -> None:
    asked: list[Ticket] = []

    def refuse(each: Ticket) -> bool:
        asked.append(each)
        return False

    queue = filled(*(ticket(str(number)) for number in range(50)))
    assert queue.pop(SHORT, refuse, now_s=0.0, aged_after_s=math.inf) is None
    assert len(asked) == LOOKS_MAX
    assert len(queue) == 50


def test_a_failing_question_leaves_the_queue_as_it_was() -> None:
    tickets = [ticket(str(number)) for number in range(5)]
    queue = filled(*tickets)

    def fail(each: Ticket) -> bool:
        if each is tickets[2]:
            raise RuntimeError
        return False

    with pytest.raises(RuntimeError):
        queue.pop(SHORT, fail, now_s=0.0, aged_after_s=math.inf)
    assert pop_all(queue) == tickets


def test_a_tenant_with_more_weight_goes_more_often() -> None:
    heavy = [ticket("heavy", weight=3.0) for _ in range(9)]
    light = [ticket("light") for _ in range(9)]
    first = pop_all(filled(*light, *heavy))[:8]
    assert sum(each.tenant == "heavy" for each in first) == 6


def test_large_requests_count_for_more() -> None:
    large = [ticket("large", cost=100_000) for _ in range(5)]
    small = [ticket("small", cost=1_000) for _ in range(50)]
    first = pop_all(filled(*large, *small))[:52]
    assert sum(each.tenant == "large" for each in first) == 2


def test_coming_back_does_not_wipe_out_what_was_given() -> None:
    greedy, again = ticket("greedy"), ticket("greedy")
    patient = [ticket("patient") for _ in range(3)]
    queue = filled(greedy, *patient)
    assert pop(queue) is greedy
    queue.push(again, capacity=100)
    assert pop_all(queue) == [patient[0], patient[1], again, patient[2]]


def test_overtaking_one_that_cannot_run_does_not_put_newcomers_back() -> None:
    large = [ticket("large", cost=100_000) for _ in range(2)]
    stuck = [ticket("stuck") for _ in range(3)]
    queue = filled(large[0], *stuck, large[1])
    assert pop(queue) is large[0]
    assert queue.pop(SHORT, lambda each: each.tenant == "large", now_s=0.0, aged_after_s=math.inf) is large[1]
    newcomer = ticket("newcomer")
    queue.push(newcomer, capacity=100)
    assert pop_all(queue) == [stuck[0], newcomer, *stuck[1:]]


def test_cancelled_requests_cost_their_tenant_nothing() -> None:
    cancelled = [ticket("a", cost=10_000) for _ in range(5)]
    kept = ticket("a", cost=10_000)
    others = [ticket("b") for _ in range(3)]
    queue = filled(*cancelled, kept, *others)
    for each in cancelled:
        assert queue.remove(each)
    assert pop_all(queue)[:2] == [kept, others[0]]


def test_cancelling_at_the_head_again_and_again_does_not_pile_up() -> None:
    band = Band()
    stays = ticket("stays")
    band.push(stays)
    for _ in range(10_000):
        goes = ticket("goes")
        band.push(goes)
        band.remove(goes)
    assert len(band._heap) <= 2 + 2 * STALE_MIN
    assert band.pick(lambda _: True, 1)[0] is stays


def test_finish_tags_of_a_great_many_tenants_are_forgotten_once_they_do_not_matter() -> None:
    band = Band()
    for number in range(5_000):
        band.push(ticket(f"passing{number}"))
        band.push(ticket("always"))
        if number:
            band.pick(lambda _: True, 1)
            band.pick(lambda _: True, 1)
    assert len(band._finish) <= 2 * STALE_MIN + 2


def test_a_full_queue_takes_a_second_tenant_at_the_cost_of_the_first() -> None:
    flood = [ticket("flood", HIGH) for _ in range(10)]
    queue = filled(*flood, capacity=10)
    pushed = queue.push(ticket("small", LOW), capacity=10)
    assert pushed == Accepted(displaced=flood[-1])
    assert isinstance(queue.push(ticket("flood", HIGH), capacity=10), Full)


def test_two_tenants_at_their_shares_do_not_displace_each_other() -> None:
    queue = filled(*(ticket(tenant) for tenant in "ab" * 5), capacity=10)
    assert isinstance(queue.push(ticket("a"), capacity=10), Full)
    assert isinstance(queue.push(ticket("b"), capacity=10), Full)
    pushed = queue.push(ticket("c"), capacity=10)
    assert isinstance(pushed, Accepted)
    assert pushed.displaced is not None


def test_a_higher_class_displaces_a_lower_one_below_the_share() -> None:
    lows = [ticket(tenant, LOW) for tenant in "abcdabcd"]
    queue = filled(*lows, ticket("e"), ticket("e"), capacity=10)
    pushed = queue.push(ticket("f"), capacity=10)
    assert isinstance(pushed, Accepted)
    assert pushed.displaced in lows[4:]
    assert isinstance(queue.push(ticket("g", LOW), capacity=10), Accepted)  # some hold two, it holds none


def test_a_tenant_displaces_its_own_lower_class() -> None:
    lows = [ticket("a", LOW) for _ in range(4)]
    queue = filled(*lows, capacity=4)
    assert queue.push(ticket("a", HIGH), capacity=4) == Accepted(displaced=lows[-1])
    assert isinstance(queue.push(ticket("a", LOW), capacity=4), Full)


def test_weight_counts_for_places_too() -> None:
    tickets = [ticket("heavy", weight=4.0) for _ in range(4)] + [ticket("light") for _ in range(3)]
    queue = filled(*tickets, *(ticket(name) for name in "xyz"), capacity=10)
    assert queue.push(ticket("new", weight=4.0), capacity=10) == Accepted(displaced=tickets[6])


def test_a_queue_without_places_takes_nobody() -> None:
    assert isinstance(FairQueue().push(ticket(), capacity=0), Full)


def test_a_limit_that_shrank_takes_nobody_until_there_is_room() -> None:
    queue = filled(*(ticket() for _ in range(10)))
    assert isinstance(queue.push(ticket("b", HIGH), capacity=5), Full)
    for _ in range(6):
        pop(queue)
    assert queue.push(ticket("b", HIGH), capacity=5) == Accepted()


def test_a_ticket_waits_once() -> None:
    only = ticket()
    with pytest.raises(ValueError, match="waits already"):
        filled(only, only)


def test_a_ticket_needs_a_pool_and_a_weight() -> None:
    with pytest.raises(ValueError, match="a pool and a weight"):
        ticket(pools=())
    with pytest.raises(ValueError, match="a pool and a weight"):
        ticket(weight=0.0)


def test_the_estimate_of_who_goes_first_follows_class_and_fairness() -> None:
    queue = filled(*(ticket("flood") for _ in range(50)), *(ticket("high", HIGH) for _ in range(3)))
    assert queue.ahead_of(ticket("flood")) == 53
    assert queue.ahead_of(ticket("new")) == 4
    assert queue.ahead_of(ticket("new", weight=0.1)) == 13
    assert queue.ahead_of(ticket("new", HIGH)) == 1
    assert queue.ahead_of(ticket("new", LOW)) == 53
    assert queue.ahead_of(ticket("new", pools=(OTHER,))) == 0
