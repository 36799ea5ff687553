from __future__ import annotations

import random
from collections.abc import Callable

from cluster.core.admission.deadline import Deadline
from cluster.core.admission.ticket import Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import TenantName
from cluster.simulator.cluster import GatewaySpec
from cluster.simulator.line import POLL_S, Line
from cluster.simulator.outcome import Fate
from tests.simulated import LONG, SHORT

SPEC = GatewaySpec(queue_s=2.0, queued_requests=2, request_s=100.0)


class Clock:
    """A desk that has a time and calls what is due; it takes no requests."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rng = random.Random(1)
        self.block_tokens = 1
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        self.calls.append((at_s, callback))

    def until(self, at_s: float) -> None:
        while self.calls and self.calls[0][0] <= at_s:
            self.now_s, callback = self.calls.pop(0)
            callback()
        self.now_s = at_s


class Waiting:
    """A line, who left it for a replica, and who was refused."""

    def __init__(self, spec: GatewaySpec = SPEC) -> None:
        self.clock = Clock()
        self.places = 0
        self.sent: list[int] = []
        self.refused: dict[int, Fate] = {}
        self.line = Line(self.clock, spec, attempt=self.attempt, refuse=self.refused.__setitem__)  # type: ignore[arg-type]

    def attempt(self, number: int) -> bool:
        if not self.places:
            return False
        self.places -= 1
        self.sent.append(number)
        return True

    def wait(self, number: int, tenant: str = "a", deadline_s: float = 100.0, *, is_held: bool = False) -> None:
        ticket = Ticket(
            tenant=TenantName(tenant),
            pools=(SHORT, LONG),
            cost_tokens=100,
            arrived_s=self.clock.now_s,
            deadline=Deadline(at_s=deadline_s),
        )
        self.line.wait(number, ticket, prefill_tokens=50, is_held=is_held)


def test_places_go_to_those_who_came_first_and_no_more_than_there_are() -> None:
    waiting = Waiting()
    waiting.wait(1)
    waiting.wait(2)
    waiting.places = 5
    waiting.line.pump(SHORT, 1)
    assert waiting.sent == [1]
    waiting.line.pump(PoolName("other"))
    assert waiting.sent == [1]
    waiting.line.pump(LONG)
    assert (waiting.sent, len(waiting.line)) == ([1, 2], 0)


def test_a_full_line_refuses_and_a_fair_share_displaces() -> None:
    waiting = Waiting()
    waiting.wait(1)
    waiting.wait(2)
    waiting.wait(3)
    assert waiting.refused == {3: Fate.QUEUE_FULL}
    waiting.wait(4, tenant="b")
    assert waiting.refused == {3: Fate.QUEUE_FULL, 2: Fate.QUEUE_FULL}


def test_time_in_line_is_bounded_and_held_requests_wait_for_their_deadline() -> None:
    waiting = Waiting()
    waiting.wait(1)
    waiting.wait(2, deadline_s=20.0, is_held=True)
    waiting.clock.until(2.0 + POLL_S)
    assert waiting.refused == {1: Fate.QUEUE_TIME}
    assert waiting.line.held(SHORT).requests == 1
    assert waiting.line.held(SHORT).oldest_s == 2.0 + POLL_S
    waiting.clock.until(20.0 + POLL_S)
    assert waiting.refused[2] is Fate.DEADLINE
    assert waiting.line.held(SHORT).requests == 0
    assert not waiting.clock.calls


def test_whoever_cannot_make_it_is_told_at_once() -> None:
    waiting = Waiting()
    waiting.wait(1, deadline_s=0.0)
    assert waiting.refused == {1: Fate.DEADLINE}


def test_the_line_is_asked_again_with_every_reading_of_leases() -> None:
    waiting = Waiting()
    waiting.wait(1)
    waiting.places = 1
    waiting.clock.until(POLL_S)
    assert waiting.sent == [1]
