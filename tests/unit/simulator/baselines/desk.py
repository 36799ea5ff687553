"""A cluster that takes whatever is sent to it, and says where it went."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cluster.core.lease import PoolName
from cluster.simulator.outcome import Fate
from cluster.simulator.router import Router
from cluster.simulator.trace import TraceRequest

POOL = PoolName("shared")


class FakeDesk:
    """Requests by number; `sent` and `refused` say what became of them."""

    def __init__(self, requests: Sequence[TraceRequest], *, full: Sequence[int] = ()) -> None:
        self.requests = requests
        self.full = set(full)
        """Replicas that take nothing."""
        self.now_s = 0.0
        self.rng = random.Random(1)
        self.sent: dict[int, int] = {}
        self.priorities: dict[int, int] = {}
        self.refused: dict[int, Fate] = {}

    def request(self, number: int) -> TraceRequest:
        return self.requests[number]

    def keys(self, number: int) -> Sequence[int]:
        """A block's number is its key: tests give equal blocks in equal places only."""
        return self.requests[number].blocks

    def send(self, number: int, replica: int, *, priority: int = 0) -> bool:
        if replica in self.full:
            return False
        self.sent[number] = replica
        self.priorities[number] = priority
        return True

    def refuse(self, number: int, fate: Fate) -> None:
        self.refused[number] = fate

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:  # noqa: ARG002 - as `Desk` says
        raise AssertionError("baselines wait for nothing")


def opened(router: Router, desk: FakeDesk, *, replicas: int, pool: PoolName = POOL) -> None:
    """Begin a run with so many replicas."""
    router.open(desk)
    for replica in range(replicas):
        router.joined(replica, pool)
