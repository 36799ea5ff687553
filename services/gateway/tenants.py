"""The tenants that the configuration lists.

What must not live here: keys (auth.py), counting (cluster/state/quotas.py), salts (cluster/core/salt.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.config import TenantSection
from cluster.core.tenant import DEFAULT_TENANT, Priority, Tenant, TenantName


class Tenants:
    """Who is behind a name."""

    def __init__(self, sections: Iterable[TenantSection]) -> None:
        self._listed = {section.name: _tenant(section) for section in sections}

    def get(self, name: str) -> Tenant:
        """The tenant with this name; one that is not listed has the defaults."""
        return self._listed.get(name) or Tenant(name=TenantName(name))

    @property
    def default(self) -> Tenant:
        """Everybody, where there are no keys."""
        return self.get(DEFAULT_TENANT)


def _tenant(section: TenantSection) -> Tenant:
    return Tenant(
        name=TenantName(section.name),
        weight=section.weight,
        priority=Priority.named(section.priority) or Priority.NORMAL,
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
    )
