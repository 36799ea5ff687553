"""What keeps the prefix caches of tenants apart: in engines, in residency, in Redis.

What must not live here: where the cluster's secret comes from (cluster/environment.py).
"""

from __future__ import annotations

import base64
import hmac
from functools import lru_cache

from cluster.core.tenant import NO_KEY, Identity, TenantName

SALTS_MAX = 4_096
"""Tenants whose salt is kept: making one takes longer than routing a request."""
SALT_BYTES = 16
"""128 bits: nobody finds another tenant's salt by trying, and it stays well under the 128 characters vLLM takes."""
_SALT_PURPOSE = b"longreach cache salt\0"


def cache_salt(identity: Identity, secret: str) -> str | None:
    """What vLLM mixes into a tenant's block hashes, so that no tenant can find out what another has cached.

    It must stay the same for as long as cached prefixes should be found, and a client must not be able to compute it.

    Args:
        identity: who asks; None comes back where nobody has a key, since all are one tenant then.
        secret: what replicas and gateways of this cluster share, and clients do not know.
    """
    return None if identity.key_id == NO_KEY else salt_of(identity.tenant.name, secret)


@lru_cache(SALTS_MAX)
def salt_of(tenant: TenantName, secret: str) -> str:
    """The salt of a tenant with keys.

    An HMAC-SHA-256 of the tenant's name, cut to 128 bits, in URL-safe base64: vLLM refuses `@`, slashes and NUL.
    """
    digest = hmac.digest(secret.encode(), _SALT_PURPOSE + tenant.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:SALT_BYTES]).rstrip(b"=").decode()
