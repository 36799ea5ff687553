"""One pool's line: its priority classes, strictly in order, with one exception so that nobody starves.

A class is served while no higher one has anything that can run. The exception is aging: when a lower class has a
request that has waited `aged_after_s`, one admission in `AGED_TURNS` goes to the oldest such request. So a higher class
keeps at least three quarters of the line whatever waits below, and a request is passed over at most `AGED_TURNS` times
for each older one. What must not live here: fairness between tenants (band.py), several pools (fair_queue.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cluster.core.admission.band import Band
from cluster.core.admission.ticket import Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority, TenantName

AGED_TURNS = 4
"""At most one admission in so many goes to an aged request of a lower class: enough that the lowest class moves, and
little enough that the highest does not notice much."""
LOOKS_MAX = 4
"""Waiting requests of one line that are tried for one free place. The first fits nearly always: those of a line need
the same pools. A try is a routing decision, so this bounds what one finished request costs."""


class Lane:
    """Tickets whose preferred pool is the same."""

    def __init__(self) -> None:
        self._bands: dict[Priority, Band] = {}
        self._uses: Counter[PoolName] = Counter()
        self._turns = 0
        """Admissions since the last that was due to aging, while a lower class waited."""

    def __len__(self) -> int:
        return sum(len(band) for band in self._bands.values())

    @property
    def pools(self) -> frozenset[PoolName]:
        """The pools that may serve a ticket here."""
        return frozenset(self._uses)

    def rank(self) -> tuple[Priority, float]:
        """What this line has to offer against other lines: its highest class, then its oldest arrival in seconds."""
        priority, band = self._ordered()[0]
        assert band.oldest is not None
        return priority, band.oldest.arrived_s

    def push(self, ticket: Ticket) -> None:
        """Put `ticket` behind its tenant's others in its class."""
        self._bands.setdefault(ticket.priority, Band()).push(ticket)
        self._uses.update(set(ticket.pools))

    def remove(self, ticket: Ticket) -> None:
        """Take out a ticket that is not served.

        Raises:
            KeyError: it does not wait here.
        """
        self._bands[ticket.priority].remove(ticket)
        self._left(ticket)

    def pick(self, can_run: Callable[[Ticket], bool], *, now_s: float, aged_after_s: float) -> Ticket | None:
        """Take out the next ticket that can run; None when none of the first `LOOKS_MAX` can."""
        looks = LOOKS_MAX
        aged = self._aged(now_s - aged_after_s)
        if aged is not None:
            looks -= 1
            if can_run(aged):
                self._bands[aged.priority].serve_oldest()
                self._turns = 0
                self._left(aged)
                return aged
        for _, band in self._ordered():
            ticket, looks = band.pick(can_run, looks)
            if ticket is not None:
                self._turns = self._turns + 1 if self._has_lower(ticket.priority) else 0
                self._left(ticket)
                return ticket
        return None

    def ahead_of(self, tenant: TenantName, weight: float, priority: Priority) -> float:
        """How many of the waiting would go before a new ticket: all of higher classes, a fair share of its own."""
        higher = sum(len(band) for above, band in self._bands.items() if above < priority)
        band = self._bands.get(priority)
        return higher + (band.ahead_of(tenant, weight) if band is not None else 0.0)

    def _ordered(self) -> list[tuple[Priority, Band]]:
        return sorted(self._bands.items())

    def _has_lower(self, priority: Priority) -> bool:
        return any(other > priority for other in self._bands)

    def _aged(self, before_s: float) -> Ticket | None:
        """The oldest request of the lower classes that arrived before `before_s`, when it is time for one."""
        if self._turns < AGED_TURNS - 1:
            return None
        lower = [band.oldest for _, band in self._ordered()[1:]]
        aged = [ticket for ticket in lower if ticket is not None and ticket.arrived_s <= before_s]
        return min(aged, key=lambda ticket: ticket.arrived_s, default=None)

    def _left(self, ticket: Ticket) -> None:
        for pool in set(ticket.pools):
            self._uses[pool] -= 1
            if not self._uses[pool]:
                del self._uses[pool]
        if not self._bands[ticket.priority]:
            del self._bands[ticket.priority]
