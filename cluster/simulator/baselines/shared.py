"""One pool for everything, and a router that knows no prefixes: what a load balancer before vLLM does.

Requests go to a replica at once and wait there, in vLLM's own line. What must not live here: routers that look at
prefixes (prefix.py), several pools (static.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from cluster.core.lease import PoolName
from cluster.simulator.outcome import Fate
from cluster.simulator.router import Desk, Held, Report


class Watched:
    """What a router has at one replica now, by its own count."""

    __slots__ = ("in_flight", "pool", "prefill_tokens", "replica")

    def __init__(self, replica: int, pool: PoolName) -> None:
        self.replica = replica
        self.pool = pool
        self.in_flight = 0
        self.prefill_tokens = 0
        """Prompt tokens of those without a first token yet."""


class BaselineRouter(ABC):
    """Counts what is where; who comes next is the subclass's business."""

    name: str
    desk: Desk

    def __init__(self) -> None:
        self.replicas: list[Watched] = []
        self._by_number: dict[int, Watched] = {}
        self._prefill_tokens: dict[int, int] = {}

    @abstractmethod
    def choose(self, number: int, among: list[Watched]) -> Watched:
        """The replica that gets a request; `among` has one or more."""

    def priority(self, number: int) -> int:  # noqa: ARG002 - for subclasses
        """Of the request in the engine's line; vLLM's default is one for all."""
        return 0

    def prefill_tokens(self, number: int, to: Watched) -> int:  # noqa: ARG002 - for subclasses
        """What the request adds to a replica's prefill, as far as the router knows."""
        return self.desk.request(number).prompt_tokens

    def sent(self, number: int, to: Watched) -> None:
        """A request is on its way."""
        tokens = self.prefill_tokens(number, to)
        to.in_flight += 1
        to.prefill_tokens += tokens
        self._prefill_tokens[number] = tokens

    def fitting(self, number: int) -> list[Watched]:  # noqa: ARG002 - for subclasses
        """Replicas that may serve it."""
        return self.replicas

    def open(self, desk: Desk) -> None:
        """As `Router` says."""
        self.desk = desk

    def joined(self, replica: int, pool: PoolName) -> None:
        """As `Router` says."""
        watched = Watched(replica, pool)
        self.replicas.append(watched)
        self._by_number[replica] = watched

    def left(self, replica: int) -> None:
        """As `Router` says."""
        self.replicas.remove(self._by_number.pop(replica))

    def arrived(self, number: int) -> None:
        """As `Router` says."""
        among = self.fitting(number)
        while among:
            chosen = self.choose(number, among)
            if self.desk.send(number, chosen.replica, priority=self.priority(number)):
                self.sent(number, chosen)
                return
            among = [watched for watched in among if watched is not chosen]
        self.desk.refuse(number, Fate.OVERLOADED if self.fitting(number) else Fate.NO_ENDPOINT)

    def answered(self, number: int, replica: int) -> None:
        """As `Router` says."""
        tokens = self._prefill_tokens.pop(number, 0)
        if watched := self._by_number.get(replica):
            watched.prefill_tokens -= tokens

    def ended(self, number: int, replica: int) -> None:
        """As `Router` says."""
        self.answered(number, replica)
        if watched := self._by_number.get(replica):
            watched.in_flight -= 1

    def failed(self, number: int, replica: int) -> None:
        """As `Router` says: it is tried elsewhere."""
        self.ended(number, replica)
        self.arrived(number)

    def reported(self, report: Report) -> None:  # noqa: B027 - most need none
        """As `Router` says: nothing is asked of reports here."""

    def held(self, pool: PoolName) -> Held:  # noqa: ARG002 - nothing ever waits here
        """As `Router` says."""
        return Held()


class RoundRobin(BaselineRouter):
    """One after the other, whatever they have to do."""

    name = "round-robin"

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0

    def choose(self, number: int, among: list[Watched]) -> Watched:  # noqa: ARG002
        """As `BaselineRouter` says."""
        self._turn += 1
        return among[self._turn % len(among)]


class LeastRequest(BaselineRouter):
    """The fewest requests in flight; ties by chance."""

    name = "least-request"

    def choose(self, number: int, among: list[Watched]) -> Watched:  # noqa: ARG002
        """As `BaselineRouter` says."""
        fewest = min(watched.in_flight for watched in among)
        return self.desk.rng.choice([watched for watched in among if watched.in_flight == fewest])


class PowerOfTwo(BaselineRouter):
    """Two by chance, and of them the one with fewer requests (Mitzenmacher, 2001)."""

    name = "power-of-two"

    def choose(self, number: int, among: list[Watched]) -> Watched:  # noqa: ARG002
        """As `BaselineRouter` says."""
        if len(among) == 1:
            return among[0]
        one, other = self.desk.rng.sample(among, 2)
        return one if one.in_flight <= other.in_flight else other


class ShortestFirst(LeastRequest):
    """Least request, and in vLLM's line the shortest prompt first (`--scheduling-policy priority`)."""

    name = "shortest-first"

    def priority(self, number: int) -> int:
        """As `BaselineRouter` says."""
        return self.desk.request(number).prompt_tokens
