"""The queue of requests that no endpoint had room for, of all pools together.

Every request stands in the line of the smallest pool that holds it (lane.py). A place that comes free in a pool goes to
that pool's own line first, then to lines whose requests may spill into it: a long request never waits behind a spilled
short one, whatever their classes. Lines do not block each other. Within a line: those that had their turn before, then
class, aging, fairness between tenants, first come first served. What must not live here: who runs where (routing), how
long anybody may wait (services/gateway/waiting.py).
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain, islice

from cluster.core.admission.lane import Lane
from cluster.core.admission.share import Holdings
from cluster.core.admission.ticket import Accepted, Full, Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority

BACK_LOOKS_MAX = 16
"""Of those that had their turn, tried for one free place: more than of a line, since a stream cannot run where it was
cut, and must not hide the others."""


class FairQueue:
    """Tickets in the order in which they are to be served.

    Operations take O(log n) in the tenants that wait, and O(n) in the tickets that had their turn; a push into a full
    queue takes O(n) in the tenants.
    """

    def __init__(self) -> None:
        self._lanes: dict[PoolName, Lane] = {}
        self._back: list[Ticket] = []
        """Those that had their turn, by arrival: in no lane and nobody's holding. There are few."""
        self._holdings = Holdings()
        self._classes: Counter[Priority] = Counter()
        self._tickets: set[Ticket] = set()

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._tickets

    @property
    def pools(self) -> frozenset[PoolName]:
        """The pools that may serve somebody who waits."""
        places = chain((lane.pools for lane in self._lanes.values()), (ticket.pools for ticket in self._back))
        return frozenset(chain.from_iterable(places))

    def length(self, priority: Priority) -> int:
        """How many of a class wait."""
        return self._classes[priority]

    def line(self, home: PoolName) -> int:
        """How many stand in a pool's own line."""
        return len(self._lanes.get(home, ())) + self._back_in(home)

    def push(self, ticket: Ticket, *, capacity: int) -> Accepted | Full:
        """Let `ticket` wait, if need be in the place of another (share.py).

        Args:
            ticket: what is to wait.
            capacity: places in the whole queue, `limits.queued_requests`; it may shrink while tickets wait. One that
                had its turn needs none.

        Raises:
            ValueError: it waits already.
        """
        if ticket in self._tickets:
            raise ValueError("this ticket waits already")
        displaced = None
        if ticket.is_back:
            insort(self._back, ticket, key=lambda one: one.arrived_s)
            self._enter(ticket)
            return Accepted()
        held = len(self._tickets) - len(self._back)
        if held >= capacity:
            displaced = self._holdings.gives_way_to(ticket, capacity) if held == capacity else None
            if displaced is None:
                return Full()
            self.remove(displaced)
        self._lanes.setdefault(ticket.home, Lane()).push(ticket)
        self._holdings.add(ticket)
        self._enter(ticket)
        return Accepted(displaced=displaced)

    def pop(
        self, pool: PoolName, can_run: Callable[[Ticket], bool], *, now_s: float, aged_after_s: float
    ) -> Ticket | None:
        """Take out the next ticket that can run in `pool`.

        Args:
            pool: where a place may be free.
            can_run: asked in order, and at most a few times for each line (`LOOKS_MAX`), until it says yes once; that
                ticket is taken out. It must not touch the queue.
            now_s: monotonic seconds, on the clock of the tickets' `arrived_s`.
            aged_after_s: how long a request of a lower class waits before it counts as aged.
        """

        def pick(lane: Lane) -> Ticket | None:
            return lane.pick(lambda head: pool in head.pools and can_run(head), now_s=now_s, aged_after_s=aged_after_s)

        own = self._lanes.get(pool)
        ticket = self._pick_back((back for back in self._back if back.home == pool), can_run)
        if ticket is None and own is not None:
            ticket = pick(own)
        if ticket is None:
            ticket = self._pick_back((b for b in self._back if b.home != pool and pool in b.pools), can_run)
        if ticket is None:
            ticket = next(filter(None, map(pick, self._guests_of(pool))), None)
        if ticket is not None:
            self._forget(ticket)
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take out a ticket that is not served (cancelled, expired, displaced); whether it was in."""
        if ticket not in self._tickets:
            return False
        if not ticket.is_back:
            self._lanes[ticket.home].remove(ticket)
        self._forget(ticket)
        return True

    def ahead_of(self, ticket: Ticket) -> float:
        """How many of the waiting would go before `ticket`, if it came now and all cost the same."""
        lane = self._lanes.get(ticket.home)
        back = float(self._back_in(ticket.home))
        if ticket.is_back or lane is None:
            return back
        return back + lane.ahead_of(ticket.tenant, ticket.weight, ticket.priority)

    @staticmethod
    def _pick_back(tickets: Iterable[Ticket], can_run: Callable[[Ticket], bool]) -> Ticket | None:
        return next((ticket for ticket in islice(tickets, BACK_LOOKS_MAX) if can_run(ticket)), None)

    def _guests_of(self, pool: PoolName) -> list[Lane]:
        guests = [lane for home, lane in self._lanes.items() if home != pool and pool in lane.pools]
        return sorted(guests, key=Lane.rank)

    def _back_in(self, home: PoolName) -> int:
        return sum(ticket.home == home for ticket in self._back)

    def _enter(self, ticket: Ticket) -> None:
        self._classes[ticket.priority] += 1
        self._tickets.add(ticket)

    def _forget(self, ticket: Ticket) -> None:
        if ticket.is_back:
            self._back.remove(ticket)
        else:
            if not self._lanes[ticket.home]:
                del self._lanes[ticket.home]
            self._holdings.remove(ticket)
        self._classes[ticket.priority] -= 1
        self._tickets.remove(ticket)
