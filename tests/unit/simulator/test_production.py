from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cluster.simulator.cluster import GatewaySpec
from cluster.simulator.outcome import Fate
from cluster.simulator.production import ProductionRouter
from cluster.simulator.trace import TraceRequest
from tests.simulated import BLOCK_TOKENS, LONG, SHORT, cluster


class Desk:
    """Takes down what a router does."""

    def __init__(self, *requests: TraceRequest) -> None:
        self.now_s = 0.0
        self.rng = random.Random(1)
        self.block_tokens = BLOCK_TOKENS
        self.requests = requests
        self.sent: dict[int, int] = {}
        self.refused: dict[int, Fate] = {}
        self.full: set[int] = set()
        self.later: list[tuple[float, Callable[[], None]]] = []

    def request(self, number: int) -> TraceRequest:
        return self.requests[number]

    def keys(self, number: int) -> tuple[int, ...]:
        return self.requests[number].blocks

    def send(self, number: int, replica: int, *, priority: int = 0) -> bool:
        assert priority == 0
        if replica in self.full:
            return False
        self.sent[number] = replica
        return True

    def refuse(self, number: int, fate: Fate) -> None:
        self.refused[number] = fate

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        self.later.append((at_s, callback))


def opened(desk: Desk) -> ProductionRouter:
    router = ProductionRouter(cluster(gateway=GatewaySpec(has_exact_lengths=True, default_output_tokens=64)))
    router.open(desk)
    for number, pool in enumerate((SHORT, SHORT, LONG)):
        router.joined(number, pool)
    return router


def test_a_preference_moves_requests_and_never_beyond_what_replicas_take() -> None:
    desk = Desk(*[TraceRequest(0.0, 1_500, 10)] * 3)
    router = opened(desk)
    router.arrived(0)
    router.prefer({SHORT: 1_000})
    router.arrived(1)
    router.prefer({SHORT: 99_999_999})
    router.arrived(2)
    assert [desk.sent[number] == 2 for number in range(3)] == [False, True, False]


def test_a_full_queue_is_tried_elsewhere_and_then_given_up() -> None:
    desk = Desk(*[TraceRequest(0.0, 1_500, 10)] * 2)
    router = opened(desk)
    desk.full = {0}
    for number in range(2):
        router.arrived(number)
    assert set(desk.sent.values()) == {1}
    desk.full = {0, 1, 2}
    other = Desk(TraceRequest(0.0, 1_500, 10))
    other.full = desk.full
    router = opened(other)
    router.arrived(0)
    assert other.refused == {0: Fate.OVERLOADED}


def test_a_request_whose_replica_died_is_sent_to_another() -> None:
    desk = Desk(TraceRequest(0.0, 1_500, 10))
    router = opened(desk)
    router.arrived(0)
    first = desk.sent[0]
    router.failed(0, first)
    assert desk.sent[0] != first
    router.failed(0, desk.sent[0])
    assert desk.refused == {0: Fate.GAVE_UP}


def test_arrivals_count_once_for_the_smallest_pool_that_holds_them() -> None:
    desk = Desk(TraceRequest(0.0, 1_500, 10), TraceRequest(0.0, 9_000, 10), TraceRequest(0.0, 90_000, 10))
    router = opened(desk)
    for number in range(3):
        router.arrived(number)
    router.failed(0, desk.sent[0])
    counts = {pool: router.held(pool).arrivals for pool in (SHORT, LONG)}
    assert {pool: (count.requests, count.prefill_tokens) for pool, count in counts.items() if count} == {
        SHORT: (1, 1_500),
        LONG: (1, 9_000),
    }
    assert desk.refused == {2: Fate.TOO_LONG}
    router.ended(1, desk.sent[1])
    ended = router.held(LONG).arrivals
    assert ended is not None
    assert (ended.answers, ended.output_tokens) == (1, 10)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="best"):
        ProductionRouter(cluster(gateway=GatewaySpec(policy="best")))
