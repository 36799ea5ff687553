"""The tenants that the configuration lists, and what keeps their prefix caches apart.

What must not live here: keys (auth.py), counting (cluster/state/quotas.py).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from functools import lru_cache

from cluster.config import TenantSection
from cluster.core.tenant import DEFAULT_TENANT, NO_KEY, Identity, Priority, Tenant, TenantName

SALTS_MAX = 4_096
"""Tenants whose salt is kept: making one takes longer than routing a request."""
SALT_BYTES = 16
"""128 bits: nobody finds another tenant's salt by trying, and it stays well under the 128 characters vLLM takes."""
_SALT_PURPOSE = b"longreach cache salt\0"


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


def cache_salt(identity: Identity, secret: str) -> str | None:
    """What vLLM mixes into a tenant's block hashes, so that no tenant can find out what another has cached.

    An HMAC-SHA-256 of the tenant's name, cut to 128 bits, in URL-safe base64: vLLM refuses `@`, slashes and NUL. It
    must stay the same for as long as cached prefixes should be found, and a client must not be able to compute it.

    Args:
        identity: who asks; None comes back where nobody has a key, since all are one tenant then.
        secret: what replicas and gateways of this cluster share, and clients do not know.
    """
    return None if identity.key_id == NO_KEY else _salt(identity.tenant.name, secret)


@lru_cache(SALTS_MAX)
def _salt(tenant: TenantName, secret: str) -> str:
    digest = hmac.digest(secret.encode(), _SALT_PURPOSE + tenant.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:SALT_BYTES]).rstrip(b"=").decode()


def _tenant(section: TenantSection) -> Tenant:
    return Tenant(
        name=TenantName(section.name),
        weight=section.weight,
        priority=Priority.named(section.priority) or Priority.NORMAL,
        requests_per_minute=section.requests_per_minute,
        tokens_per_minute=section.tokens_per_minute,
    )
