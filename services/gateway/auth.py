"""From the headers of a request to who sent it.

What lives here: API keys and what they allow. What must not: reading their file again (access.py), answering with 401
(services/api), the file's form (cluster/config/keys.py).
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from cluster.config.base import NAME_PATTERN
from cluster.config.keys import KeysFile, digest_of
from cluster.core.tenant import CERTIFICATE, Identity, KeyId, Role, TenantName
from services.gateway.tenants import Tenants

BEARER = "bearer "
KEY_CHARS_MAX = 256
"""Ours have 46. What is longer is no key, and is not worth hashing."""

_TENANT_NAME = re.compile(NAME_PATTERN)


class Denial(StrEnum):
    """Why nobody is behind a request; these are metric labels."""

    MISSING = "missing"
    """It carries no key."""
    UNKNOWN = "unknown"
    """It carries something that is no key of ours, or was revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A request that nobody answers for: 401."""

    reason: Denial


_MISSING = Denied(reason=Denial.MISSING)
_UNKNOWN = Denied(reason=Denial.UNKNOWN)


class Authenticator:
    """The keys at one time; another is built when they change."""

    def __init__(self, keys: KeysFile | None, tenants: Tenants, *, takes_certificates: bool = False) -> None:
        """Build the look-up.

        Args:
            keys: the keys file's content; None where the configuration names none: everybody is the default tenant.
            tenants: who the keys belong to.
            takes_certificates: a client certificate's common name is a tenant.
        """
        self._tenants = tenants
        self._takes_certificates = takes_certificates
        self._by_digest: dict[bytes, tuple[bytes, Identity]] = {}
        for key in keys.keys if keys is not None else ():
            digest = bytes.fromhex(key.sha256)
            identity = Identity(tenant=tenants.get(key.tenant), key_id=KeyId(key.id), role=Role(key.role))
            self._by_digest[digest] = (digest, identity)
        self._everybody = Identity(tenant=tenants.default) if keys is None else None

    @property
    def needs_key(self) -> bool:
        """Whether a request needs a key."""
        return self._everybody is None

    def __len__(self) -> int:
        return len(self._by_digest)

    def identify(
        self, authorization: str | None, x_api_key: str | None, certificate: str | None = None
    ) -> Identity | Denied:
        """Who sent a request.

        Args:
            authorization: that header's value; `Bearer KEY`, as OpenAI's clients send it, counts before the next.
            x_api_key: that header's value, as Anthropic's clients send it.
            certificate: the common name in the client certificate that TLS verified; it counts where there is no key.
        """
        if self._everybody is not None:
            return self._everybody
        key = ""
        if authorization is not None and authorization[: len(BEARER)].lower() == BEARER:
            key = authorization[len(BEARER) :].strip()
        key = key or (x_api_key or "").strip()
        if not key:
            return self._certified(certificate)
        if len(key) > KEY_CHARS_MAX:
            return _UNKNOWN
        digest = digest_of(key)
        # The look-up's time depends on a hash of what was sent, which tells nothing about a key that was not.
        found = self._by_digest.get(digest)
        if found is None or not hmac.compare_digest(digest, found[0]):
            return _UNKNOWN
        return found[1]

    def _certified(self, certificate: str | None) -> Identity | Denied:
        if certificate is None or not self._takes_certificates:
            return _MISSING
        if not _TENANT_NAME.fullmatch(certificate):
            return _UNKNOWN
        return Identity(tenant=self._tenants.get(TenantName(certificate)), key_id=CERTIFICATE)

    def may_administer(self, identity: Identity) -> bool:
        """Whether the admin listener's routes are open to `identity`; where there are no keys, loopback guards them."""
        return self._everybody is not None or identity.role is Role.ADMIN
