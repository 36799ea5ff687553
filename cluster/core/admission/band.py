"""Fairness between tenants: one priority class in one pool's line.

The rule is start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng: Start-Time Fair Queueing, SIGCOMM 1996, section 2).
Served is the tenant with the lowest start tag S; a tenant's next tag is its finish tag F = S + work / weight, and one
that comes back from having nothing to wait for starts at max(v, F), where the virtual time v is the start tag served
last. While two tenants both have something waiting, the work each was given, by weight, differs by at most one largest
request of each (their theorem 1), however fast or slow the pool is. Within a tenant: first come, first served.

Two things differ from the paper. A tag is given when a ticket becomes its tenant's first instead of when it arrives;
that gives the same order, and a request that is cancelled while it waits costs its tenant nothing. And virtual time
moves only when the lowest tag is served, not when a ticket overtakes because those before it cannot run.
What must not live here: classes, aging, limits on length.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster.core.admission.ticket import Ticket
from cluster.core.tenant import TenantName

STALE_MIN = 64
"""Entries kept beyond need before they are swept out. Sweeping at twice what is live costs each operation O(1) on
average; the constant keeps short lines from sweeping all the time."""

_Entry = tuple[float, int, "_Flow"]
"""Start tag, place in the order of arrival, flow. It is stale when the flow's tag has moved on."""


@dataclass(slots=True, eq=False)
class _Flow:
    """One tenant's waiting tickets, in order of arrival, each with its place."""

    start: float
    weight: float
    tickets: OrderedDict[Ticket, int] = field(default_factory=OrderedDict)

    @property
    def head(self) -> Ticket:
        return next(iter(self.tickets))


class Band:
    """Tickets of one class for one pool; the fair order between their tenants."""

    def __init__(self) -> None:
        self._flows: dict[TenantName, _Flow] = {}
        self._arrivals: OrderedDict[Ticket, None] = OrderedDict()
        self._heap: list[_Entry] = []
        self._finish: dict[TenantName, float] = {}
        """Finish tags of tenants with nothing waiting: coming back must not wipe out what they were given."""
        self._finish_max = STALE_MIN
        self._weights = 0.0
        self._virtual = 0.0
        self._places = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def oldest(self) -> Ticket | None:
        """The ticket that came first of all; None when the band is empty."""
        return next(iter(self._arrivals), None)

    def push(self, ticket: Ticket) -> None:
        """Put `ticket` behind its tenant's others."""
        self._places += 1
        flow = self._flows.get(ticket.tenant)
        if flow is None:
            start = max(self._virtual, self._finish.pop(ticket.tenant, 0.0))
            flow = self._flows[ticket.tenant] = _Flow(start=start, weight=ticket.weight)
            self._weights += ticket.weight
            self._enter(flow, self._places)
        flow.tickets[ticket] = self._places
        self._arrivals[ticket] = None

    def pick(self, can_run: Callable[[Ticket], bool], looks: int) -> tuple[Ticket | None, int]:
        """Take out the first ticket in fair order that can run.

        Args:
            can_run: asked of tenants' first tickets in order, until it says yes once.
            looks: how often it may be asked.

        Returns:
            The ticket, if any, and how many looks are left.
        """
        passed: list[_Entry] = []
        picked: Ticket | None = None
        try:
            while picked is None and self._heap and looks > 0:
                entry = heapq.heappop(self._heap)
                start, _, flow = entry
                if not flow.tickets or flow.start != start:
                    continue
                passed.append(entry)
                looks -= 1
                if can_run(flow.head):
                    picked = flow.head
                    passed.pop()
                    if not passed:
                        self._virtual = start
        finally:
            for entry in passed:
                heapq.heappush(self._heap, entry)
        if picked is not None:
            self._serve(picked)
        return picked, looks

    def serve_oldest(self) -> None:
        """Take out the oldest ticket, out of its turn; its tenant is charged as ever."""
        oldest = self.oldest
        assert oldest is not None
        self._serve(oldest)

    def remove(self, ticket: Ticket) -> None:
        """Take out a ticket that is not served; its tenant is not charged.

        Raises:
            KeyError: it does not wait here.
        """
        flow = self._take(ticket)
        if not flow.tickets:
            self._leave(ticket.tenant, flow)

    def ahead_of(self, tenant: TenantName, weight: float) -> float:
        """How many of the waiting would go before a new ticket of `tenant`, if all cost the same.

        While a tenant's m-th request waits its turn, the others get m times their weight's share, or run out before.
        """
        flow = self._flows.get(tenant)
        own = len(flow.tickets) if flow is not None else 0
        others_weight = self._weights - (flow.weight if flow is not None else 0.0)
        return own + min(len(self) - own, (own + 1) * max(others_weight, 0.0) / weight)

    def _serve(self, ticket: Ticket) -> None:
        flow = self._take(ticket)
        flow.start += ticket.work
        if flow.tickets:
            self._enter(flow, flow.tickets[flow.head])
        else:
            self._leave(ticket.tenant, flow)

    def _take(self, ticket: Ticket) -> _Flow:
        del self._arrivals[ticket]
        flow = self._flows[ticket.tenant]
        del flow.tickets[ticket]
        return flow

    def _enter(self, flow: _Flow, place: int) -> None:
        heapq.heappush(self._heap, (flow.start, place, flow))
        if len(self._heap) > 2 * len(self._flows) + STALE_MIN:
            self._heap = [entry for entry in self._heap if entry[2].tickets and entry[2].start == entry[0]]
            heapq.heapify(self._heap)

    def _leave(self, tenant: TenantName, flow: _Flow) -> None:
        """`flow` has nothing left: remember what its tenant was given, as long as that still matters."""
        del self._flows[tenant]
        self._weights -= flow.weight
        if not self._flows:
            # Nobody waits, so nobody is owed anything: the paper's end of a busy period.
            self._heap.clear()
            self._finish.clear()
            self._weights = self._virtual = 0.0
            return
        if flow.start > self._virtual:
            self._finish[tenant] = flow.start
        if len(self._finish) > self._finish_max:
            self._finish = {name: tag for name, tag in self._finish.items() if tag > self._virtual}
            self._finish_max = 2 * len(self._finish) + STALE_MIN
