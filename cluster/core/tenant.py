"""Who asks, and what they may have.

What lives here: tenants, priority classes, roles, the identity behind one request. What must not: keys and their
hashes (services/gateway/auth.py), counting (cluster/core/quota.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NewType

TenantName = NewType("TenantName", str)
KeyId = NewType("KeyId", str)

DEFAULT_TENANT = TenantName("default")
NO_KEY = KeyId("none")
CERTIFICATE = KeyId("certificate")
"""Instead of a key's id, where a client certificate said who asks."""


class Priority(IntEnum):
    """Priority classes; the value goes to vLLM's scheduler, where lower is served first."""

    HIGH = -10
    NORMAL = 0
    LOW = 10

    @classmethod
    def named(cls, name: str) -> Priority | None:
        """The class with this lower-case name; None when there is none."""
        return _BY_NAME.get(name)


_BY_NAME = {priority.name.lower(): priority for priority in Priority}


class Role(StrEnum):
    """What a key may do."""

    CLIENT = "client"
    ADMIN = "admin"
    """Also the routes of the admin listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One tenant and its limits; None: no limit."""

    name: TenantName
    weight: float = 1.0
    priority: Priority = Priority.NORMAL
    """The highest class its requests may ask for, and what they get when they ask for none."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The authenticated sender of one request."""

    tenant: Tenant
    key_id: KeyId = NO_KEY
    role: Role = Role.CLIENT
