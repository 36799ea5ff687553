"""Where each baseline sends requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from cluster.core.lease import PoolName
from cluster.simulator.baselines import (
    ApproximatePrefix,
    ExactPrefix,
    LeastRequest,
    PowerOfTwo,
    RoundRobin,
    ShortestFirst,
    StaticPools,
)
from cluster.simulator.baselines.shared import BaselineRouter
from cluster.simulator.outcome import Fate
from cluster.simulator.router import Report
from cluster.simulator.trace import TraceRequest
from tests.unit.simulator.baselines.desk import POOL, FakeDesk, opened

SHARED: tuple[Callable[[], BaselineRouter], ...] = (
    RoundRobin,
    LeastRequest,
    PowerOfTwo,
    ShortestFirst,
    ApproximatePrefix,
    ExactPrefix,
)


def requests(*blocks: tuple[int, ...]) -> list[TraceRequest]:
    return [TraceRequest(0.0, 512 * len(one), 10, one) for one in blocks]


def fresh(count: int, blocks: int = 4) -> list[TraceRequest]:
    """Prompts that share nothing."""
    return requests(*(tuple(range(at * blocks, (at + 1) * blocks)) for at in range(count)))


def resident(replica: int, *blocks: int, removes: tuple[int, ...] = ()) -> Report:
    adds = [(block, 512 * (place + 1)) for place, block in enumerate(blocks)]
    return Report(replica, POOL, 0, 0, 0.0, 0, adds=adds, removes=removes)


def test_round_robin_gives_everyone_the_same() -> None:
    router, desk = RoundRobin(), FakeDesk(fresh(12))
    opened(router, desk, replicas=4)
    for number in range(12):
        router.arrived(number)
    assert set(Counter(desk.sent.values()).values()) == {3}


def test_least_request_goes_where_fewest_are() -> None:
    router, desk = LeastRequest(), FakeDesk(fresh(5))
    opened(router, desk, replicas=3)
    for number in range(3):
        router.arrived(number)
    assert sorted(desk.sent.values()) == [0, 1, 2]
    router.ended(1, desk.sent[1])
    router.arrived(3)
    assert desk.sent[3] == desk.sent[1]


def test_power_of_two_takes_the_better_of_two() -> None:
    router, desk = PowerOfTwo(), FakeDesk(fresh(60))
    opened(router, desk, replicas=2)
    for number in range(60):
        router.arrived(number)
    assert Counter(desk.sent.values()) == {0: 30, 1: 30}


def test_shortest_first_orders_the_engines_line() -> None:
    router, desk = ShortestFirst(), FakeDesk([TraceRequest(0.0, 9000, 1), TraceRequest(0.0, 10, 1)])
    opened(router, desk, replicas=1)
    router.arrived(0)
    router.arrived(1)
    assert desk.priorities == {0: 9000, 1: 10}


def test_approximate_prefix_follows_what_it_sent() -> None:
    router, desk = ApproximatePrefix(), FakeDesk(requests((0, 1, 2, 3), (10, 11), (0, 1, 2, 9), (0, 20, 21, 22, 23)))
    opened(router, desk, replicas=2)
    for number in range(4):
        router.arrived(number)
    assert desk.sent[1] != desk.sent[0], "nothing of it is known, and less is remembered there"
    assert desk.sent[2] == desk.sent[0], "three blocks of four are known there"
    assert desk.sent[3] == desk.sent[1], "one block of five is too little to follow"


def test_approximate_prefix_gives_way_to_load() -> None:
    same = requests(*[(0, 1, 2, 3)] * 70)
    router, desk = ApproximatePrefix(), FakeDesk(same)
    opened(router, desk, replicas=2)
    for number in range(70):
        router.arrived(number)
    counts = Counter(desk.sent.values())
    assert counts[desk.sent[0]] - counts[1 - desk.sent[0]] <= 65
    assert len(counts) == 2


def test_exact_prefix_follows_reports_and_not_what_was_sent() -> None:
    router, desk = ExactPrefix(), FakeDesk(requests((0, 1, 2, 3), (0, 1, 2, 4), (0, 1, 2, 5)))
    opened(router, desk, replicas=3)
    router.reported(resident(2, 0, 1, 2))
    router.arrived(0)
    assert desk.sent[0] == 2
    router.ended(0, 2)
    router.reported(resident(2, removes=(0,)))
    router.reported(resident(1, 0, 1))
    router.arrived(1)
    assert desk.sent[1] == 1


def test_exact_prefix_weighs_what_is_left_against_load() -> None:
    long = tuple(range(100))
    router, desk = ExactPrefix(), FakeDesk(requests(long, (*long[:1], 500)))
    opened(router, desk, replicas=2)
    router.reported(resident(0, *long))
    router.arrived(0)
    assert desk.sent[0] == 0
    router.arrived(1)
    assert desk.sent[1] == 1, "one block is resident at 0, where a hundred are in the batch"


@pytest.mark.parametrize("make", SHARED)
def test_a_full_replica_is_passed_over(make: Callable[[], BaselineRouter]) -> None:
    router, desk = make(), FakeDesk(fresh(8), full=(0, 2))
    opened(router, desk, replicas=3)
    for number in range(8):
        router.arrived(number)
    assert set(desk.sent.values()) == {1}
    assert desk.refused == {}


@pytest.mark.parametrize("make", SHARED)
def test_nobody_who_takes_it_is_a_refusal(make: Callable[[], BaselineRouter]) -> None:
    router, desk = make(), FakeDesk(fresh(2), full=(0,))
    opened(router, desk, replicas=1)
    router.arrived(0)
    router.left(0)
    router.arrived(1)
    assert desk.refused == {0: Fate.OVERLOADED, 1: Fate.NO_ENDPOINT}


@pytest.mark.parametrize("make", SHARED)
def test_requests_of_a_dead_replica_go_elsewhere(make: Callable[[], BaselineRouter]) -> None:
    router, desk = make(), FakeDesk(fresh(1))
    opened(router, desk, replicas=2)
    router.arrived(0)
    dead = desk.sent[0]
    router.left(dead)
    router.failed(0, dead)
    assert desk.sent[0] == 1 - dead


@pytest.mark.parametrize("make", SHARED)
def test_counts_return_to_zero(make: Callable[[], BaselineRouter]) -> None:
    router, desk = make(), FakeDesk(fresh(20))
    opened(router, desk, replicas=3)
    for number in range(20):
        router.arrived(number)
    for number in range(20):
        if number % 2:
            router.answered(number, desk.sent[number])
        router.ended(number, desk.sent[number])
    assert [(watched.in_flight, watched.prefill_tokens) for watched in router.replicas] == [(0, 0)] * 3


def test_static_pools_know_length_and_nothing_else() -> None:
    short, long = PoolName("short"), PoolName("long")
    made = [TraceRequest(0.0, 90, 10), TraceRequest(0.0, 91, 10), TraceRequest(0.0, 1000, 1), TraceRequest(0.0, 1, 1)]
    router, desk = StaticPools({long: 1000, short: 100}), FakeDesk(made, full=(0,))
    router.open(desk)
    for replica, pool in enumerate((short, long)):
        router.joined(replica, pool)
    for number in range(3):
        router.arrived(number)
    assert desk.sent == {1: 1}
    assert desk.refused == {0: Fate.OVERLOADED, 2: Fate.TOO_LONG}
