"""Whatever spills, a larger pool's own requests find a slot until they fill its reserve."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    Decision,
    Endpoint,
    EndpointTable,
    HomeState,
    Policy,
    Pool,
    Query,
    Saturated,
    Tier,
    profile_of,
    route,
)
from cluster.core.routing.room import guest_slots

SHORT, LONG = PoolName("short"), PoolName("long")
POOLS = [
    Pool(name=SHORT, model="m", context_tokens=1_000),
    Pool(name=LONG, model="m", context_tokens=10_000),
]
SHORT_NEED = ContextNeed(prompt_tokens=100, output_tokens=100, is_explicit=True)
LONG_NEED = ContextNeed(prompt_tokens=5_000, output_tokens=100, is_explicit=True)
RATIOS = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0])


def endpoint(pool: PoolName, number: int, capacity: int, **figures: float) -> Endpoint:
    return Endpoint(
        replica_id=ReplicaId(f"{pool}-{number}"),
        pool=pool,
        url="",
        accepts=True,
        capacity=capacity,
        **figures,  # type: ignore[arg-type]
    )


@dataclass(frozen=True, slots=True)
class Running:
    replica_id: ReplicaId
    is_long: bool


@given(
    short_capacities=st.lists(st.integers(1, 6), max_size=3),
    long_capacities=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    reserve_ratio=RATIOS,
    steps=st.lists(st.tuples(st.sampled_from(["short", "short", "long", "finish", "report"]), st.integers(0, 999))),
    policy=st.sampled_from(Policy),
)
def test_own_requests_find_a_slot_whatever_spilled(
    short_capacities: list[int],
    long_capacities: list[int],
    reserve_ratio: float,
    steps: list[tuple[str, int]],
    policy: Policy,
) -> None:
    table = EndpointTable()
    capacities: dict[ReplicaId, int] = {}
    for pool, sizes in ((SHORT, short_capacities), (LONG, long_capacities)):
        for number, capacity in enumerate(sizes):
            table.put(endpoint(pool, number, capacity))
            capacities[ReplicaId(f"{pool}-{number}")] = capacity
    home = HomeState.SATURATED if short_capacities else HomeState.DEAD
    guests_most = sum(guest_slots(capacity, reserve_ratio, home) for capacity in long_capacities)
    reserve = sum(long_capacities) - guests_most
    profile, rng = profile_of(policy, reserve_ratio=reserve_ratio), random.Random(1)
    running: list[Running] = []
    for kind, number in steps:
        if kind == "finish":
            if running:
                ended = running.pop(number % len(running))
                table.finished(ended.replica_id, 0)
            continue
        if kind == "report":  # the engine tells what it has: exactly what we sent it
            replica_id = sorted(capacities)[number % len(capacities)]
            count = sum(one.replica_id == replica_id for one in running)
            pool, _, place = replica_id.partition("-")
            table.put(endpoint(PoolName(pool), int(place), capacities[replica_id], running=count, report=number + 1))
            continue
        is_long = kind == "long"
        own = sum(one.is_long for one in running)
        outcome = route(Query(need=LONG_NEED if is_long else SHORT_NEED), POOLS, table, profile, rng)
        if is_long and own < reserve:
            assert isinstance(outcome, Decision), "the reserve was taken"
        if isinstance(outcome, Saturated):
            continue
        assert isinstance(outcome, Decision)
        chosen = outcome.choices[0].endpoint
        table.started(chosen.replica_id, 0)
        running.append(Running(chosen.replica_id, is_long))
        # Nobody ever waits inside an engine, and guests keep to their share.
        assert sum(one.replica_id == chosen.replica_id for one in running) <= capacities[chosen.replica_id]
        guests = sum(one.replica_id.startswith(LONG) and not one.is_long for one in running)
        assert guests <= guests_most
        if not is_long and chosen.pool == LONG:
            short_load = sum(one.replica_id.startswith(SHORT) for one in running)
            assert short_load >= sum(short_capacities), "spilled beside a free slot of its own pool"


@given(capacity=st.integers(1, 1_000), reserve_ratio=RATIOS)
def test_guest_slots_leave_at_least_the_reserve(capacity: int, reserve_ratio: float) -> None:
    slots = guest_slots(capacity, reserve_ratio, HomeState.SATURATED)
    assert 0 <= slots <= capacity
    assert capacity - slots >= reserve_ratio * capacity - 1e-6
    assert slots + 1 > capacity * (1 - reserve_ratio), "a slot was kept for nothing"
    assert guest_slots(capacity, reserve_ratio, HomeState.DEAD) == (max(slots, 1) if reserve_ratio < 1 else 0)


def decide(*endpoints: Endpoint, reserve_ratio: float = 0.25, **query: bool) -> Decision | Saturated:
    table = EndpointTable()
    for one in endpoints:
        table.put(one)
    asked = Query(need=SHORT_NEED, **query)  # type: ignore[arg-type]
    outcome = route(asked, POOLS, table, profile_of("balanced", reserve_ratio=reserve_ratio), random.Random(1))
    assert isinstance(outcome, (Decision, Saturated))
    return outcome


FULL_SHORT = endpoint(SHORT, 0, 2, running=2, queue_limit=1)


@pytest.mark.parametrize(
    ("figures", "spills"),
    [
        ({}, True),
        ({"running": 5}, True),
        ({"running": 6}, False),
        ({"running": 1, "waiting": 1}, False),
        ({"kv_use_ratio": 0.75}, True),
        ({"kv_use_ratio": 0.76}, False),
    ],
)
def test_a_guest_needs_a_slot_beside_the_reserve(figures: dict[str, float], spills: bool) -> None:
    outcome = decide(FULL_SHORT, endpoint(LONG, 0, 8, **figures))
    if spills:
        assert isinstance(outcome, Decision)
        assert outcome.choices[0].tier is Tier.SPILL
        assert "short is full, long holds them too" in outcome.choices[0].reason
    else:
        assert outcome == Saturated(pools=(SHORT, LONG))


def test_a_free_slot_at_home_comes_first_and_a_guest_place_second() -> None:
    outcome = decide(endpoint(SHORT, 0, 2, running=1, prefill_tokens=100_000), endpoint(LONG, 0, 8))
    assert isinstance(outcome, Decision)
    assert [choice.tier for choice in outcome.choices] == [Tier.HOME, Tier.SPILL]
    assert "was busy or failed" in outcome.choices[1].reason


def test_waiting_in_the_engine_is_only_for_gateways_without_a_queue() -> None:
    full_long = endpoint(LONG, 0, 8, running=8, queue_limit=8)
    assert decide(FULL_SHORT, full_long) == Saturated(pools=(SHORT, LONG))
    outcome = decide(FULL_SHORT, full_long, may_queue=True)
    assert isinstance(outcome, Decision)
    assert [(choice.endpoint.pool, choice.tier) for choice in outcome.choices] == [(SHORT, Tier.QUEUE)]
    too_many = endpoint(SHORT, 0, 2, running=2, waiting=1, queue_limit=1)
    assert decide(too_many, full_long, may_queue=True) == Saturated(pools=(SHORT, LONG))


def test_a_dead_pool_gets_free_slots_but_not_the_reserve() -> None:
    outcome = decide(endpoint(LONG, 0, 8, running=5))
    assert isinstance(outcome, Decision)
    assert "short has no healthy replica" in outcome.choices[0].reason
    assert decide(endpoint(LONG, 0, 8, running=6)) == Saturated(pools=(LONG,))
    # An endpoint of one slot cannot keep a part of it: it serves while it is idle.
    assert isinstance(decide(endpoint(LONG, 0, 1)), Decision)
    assert decide(endpoint(LONG, 0, 1), reserve_ratio=1) == Saturated(pools=(LONG,))
    assert decide(endpoint(SHORT, 0, 1, running=1), endpoint(LONG, 0, 1)) == Saturated(pools=(SHORT, LONG))


def test_capacity_unknown_is_never_full() -> None:
    outcome = decide(endpoint(SHORT, 0, 0, running=10_000), endpoint(LONG, 0, 8))
    assert isinstance(outcome, Decision)
    assert outcome.choices[0].endpoint.pool == SHORT
    outcome = decide(FULL_SHORT, endpoint(LONG, 0, 0, running=50))
    assert isinstance(outcome, Decision)
    assert outcome.choices[0].tier is Tier.SPILL


def test_busy_healthy_endpoints_are_waited_for_rather_than_suspects_tried() -> None:
    table = EndpointTable()
    for one in (FULL_SHORT, endpoint(SHORT, 1, 2)):
        table.put(one)
    table.set_suspect(ReplicaId("short-1"), is_suspect=True)
    profile = profile_of("balanced")
    outcome = route(Query(need=SHORT_NEED), POOLS, table, profile, random.Random(1))
    assert outcome == Saturated(pools=(SHORT,))
    table.remove(ReplicaId("short-0"))
    outcome = route(Query(need=SHORT_NEED), POOLS, table, profile, random.Random(1))
    assert isinstance(outcome, Decision)
    assert outcome.choices[0].tier is Tier.SUSPECT
