"""Who gives way when the queue is full.

A tenant alone may use the whole queue. Once it is full, a newcomer gets a place in one of these ways, tried in order;
the one displaced is always the newest of its tenant in its class, which loses the least time.

1. A tenant that holds its share of the places (`TENANT_SHARE`) or more displaces only a lower class of its own.
2. Another tenant over that share gives way, with its lowest class.
3. A lower class gives way, with the tenant that holds most of it by weight.
4. In the newcomer's own class, where no lower one waits, the tenant that holds most by weight gives way, if it holds
   more than the newcomer's tenant would then.

Rules 1 and 2 keep one tenant with a high class from shutting out all others; rule 4 is strict, so that two tenants
never displace each other in turn. What must not live here: the order of service.
"""

from __future__ import annotations

from collections import OrderedDict

from cluster.core.admission.ticket import Ticket
from cluster.core.tenant import Priority, TenantName

TENANT_SHARE = 0.5
"""Share of the places that a tenant keeps against all others when the queue is full. A half: at most one tenant can be
over it, so it is clear who gives way, and there is always room for a second."""


class Holdings:
    """What every tenant has in the queue, by class, in order of arrival."""

    def __init__(self) -> None:
        self._by_class: dict[Priority, dict[TenantName, OrderedDict[Ticket, None]]] = {}
        self._by_tenant: dict[TenantName, int] = {}

    def add(self, ticket: Ticket) -> None:
        """`ticket` is in the queue."""
        tenants = self._by_class.setdefault(ticket.priority, {})
        tenants.setdefault(ticket.tenant, OrderedDict())[ticket] = None
        self._by_tenant[ticket.tenant] = self.held_by(ticket.tenant) + 1

    def remove(self, ticket: Ticket) -> None:
        """`ticket` is out of the queue.

        Raises:
            KeyError: it was not in.
        """
        tenants = self._by_class[ticket.priority]
        del tenants[ticket.tenant][ticket]
        if not tenants[ticket.tenant]:
            del tenants[ticket.tenant]
        if not tenants:
            del self._by_class[ticket.priority]
        self._by_tenant[ticket.tenant] -= 1
        if not self._by_tenant[ticket.tenant]:
            del self._by_tenant[ticket.tenant]

    def held_by(self, tenant: TenantName) -> int:
        """Places that `tenant` has."""
        return self._by_tenant.get(tenant, 0)

    def gives_way_to(self, newcomer: Ticket, capacity: int) -> Ticket | None:
        """The ticket that `newcomer` displaces from a queue of `capacity` places, which is full; None: nobody's.

        Takes time linear in the number of tenants that wait, not of tickets.
        """
        share = max(1, int(capacity * TENANT_SHARE))
        if self.held_by(newcomer.tenant) >= share:
            return self._newest_below(newcomer.tenant, newcomer.priority)
        if max(self._by_tenant.values(), default=0) > share:
            return self._newest_below(max(self._by_tenant, key=self.held_by), None)
        lowest = max(self._by_class, default=newcomer.priority)
        if lowest < newcomer.priority or lowest not in self._by_class:
            return None
        tenants = self._by_class[lowest]
        victim = max(tenants, key=lambda tenant: _by_weight(tenants[tenant]))
        if lowest == newcomer.priority:
            own = len(tenants.get(newcomer.tenant, ()))
            if (own + 1) / newcomer.weight >= _by_weight(tenants[victim]):
                return None
        return next(reversed(tenants[victim]))

    def _newest_below(self, tenant: TenantName, priority: Priority | None) -> Ticket | None:
        """The newest ticket in the tenant's lowest class; None unless that class is lower than `priority`."""
        for held in sorted(self._by_class, reverse=True):
            if priority is not None and held <= priority:
                return None
            tickets = self._by_class[held].get(tenant)
            if tickets:
                return next(reversed(tickets))
        return None


def _by_weight(tickets: OrderedDict[Ticket, None]) -> float:
    return len(tickets) / next(iter(tickets)).weight
