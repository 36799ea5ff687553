"""Who is behind a request: keys, tenants, roles, salts."""

from __future__ import annotations

import datetime as dt
import re
import timeit

import pytest

from cluster.config import TenantSection
from cluster.config.keys import KeySection, KeysFile, digest_of
from cluster.core.salt import cache_salt
from cluster.core.tenant import NO_KEY, Identity, KeyId, Priority, Role, TenantName
from services.gateway.auth import KEY_CHARS_MAX, Authenticator, Denial, Denied
from services.gateway.tenants import Tenants

TENANTS = Tenants(
    [
        TenantSection(name="acme", weight=2, priority="high", requests_per_minute=10, tokens_per_minute=1000),
        TenantSection(name="default", priority="low"),
    ]
)
LOOKUP_US_MAX = 20.0
"""Ten times what it should take: the machine is shared."""


def key(name: str, tenant: str = "acme", role: str = "client") -> KeySection:
    return KeySection.model_validate(
        {
            "id": name,
            "tenant": tenant,
            "role": role,
            "sha256": digest_of(f"lr-{name}").hex(),
            "created": dt.date(2026, 11, 3),
        }
    )


@pytest.fixture
def auth() -> Authenticator:
    return Authenticator(KeysFile(keys=[key("one"), key("two", "new-one"), key("boss", role="admin")]), TENANTS)


def name_of(answer: Identity | Denied) -> str:
    return answer.reason if isinstance(answer, Denied) else answer.key_id


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "expected"),
    [
        ("Bearer lr-one", None, "one"),
        ("bearer  lr-one ", None, "one"),
        ("BEARER lr-two", None, "two"),
        (None, "lr-one", "one"),
        ("Bearer lr-one", "lr-two", "one"),
        ("Bearer ", "lr-two", "two"),
        ("Basic bHItb25l", "lr-two", "two"),
        (None, None, "missing"),
        ("", "", "missing"),
        ("Bearer", None, "missing"),
        ("Basic bHItb25l", None, "missing"),
        ("Bearer lr-three", None, "unknown"),
        ("Bearer lr-one", "", "one"),
        ("Bearer lr-three", "lr-one", "unknown"),
        (None, digest_of("lr-one").hex(), "unknown"),
        (None, "LR-ONE", "unknown"),
        (None, "\udcff\xff\0", "unknown"),
        (None, "x" * (KEY_CHARS_MAX + 1), "unknown"),
    ],
)
def test_both_headers_are_understood(
    auth: Authenticator, authorization: str | None, x_api_key: str | None, expected: str
) -> None:
    assert name_of(auth.identify(authorization, x_api_key)) == expected


def test_a_key_leads_to_its_tenant(auth: Authenticator) -> None:
    known = auth.identify("Bearer lr-one", None)
    assert isinstance(known, Identity)
    assert (known.tenant.name, known.tenant.weight, known.tenant.priority) == ("acme", 2.0, Priority.HIGH)
    assert (known.tenant.requests_per_minute, known.tenant.tokens_per_minute) == (10, 1000)
    unlisted = auth.identify(None, "lr-two")
    assert isinstance(unlisted, Identity)
    assert (unlisted.tenant.name, unlisted.tenant.weight, unlisted.tenant.tokens_per_minute) == ("new-one", 1.0, None)


def test_only_an_admin_may_administer(auth: Authenticator) -> None:
    client, boss = auth.identify(None, "lr-one"), auth.identify(None, "lr-boss")
    assert isinstance(client, Identity)
    assert isinstance(boss, Identity)
    assert (client.role, boss.role) == (Role.CLIENT, Role.ADMIN)
    assert (auth.may_administer(client), auth.may_administer(boss)) == (False, True)


def test_without_keys_everybody_is_the_default_tenant() -> None:
    auth = Authenticator(None, TENANTS)
    everybody = auth.identify("Bearer whatever", "x")
    assert isinstance(everybody, Identity)
    assert everybody is auth.identify(None, None)
    assert (everybody.tenant.name, everybody.tenant.priority) == ("default", Priority.LOW)
    assert (everybody.key_id, everybody.role) == (NO_KEY, Role.CLIENT)
    assert auth.may_administer(everybody)
    assert not auth.needs_key


def test_a_file_without_keys_lets_nobody_in() -> None:
    auth = Authenticator(KeysFile(keys=[]), TENANTS)
    assert auth.needs_key
    assert auth.identify(None, None) == Denied(reason=Denial.MISSING)
    assert auth.identify("Bearer lr-one", None) == Denied(reason=Denial.UNKNOWN)


def test_a_look_up_is_cheap_with_many_keys() -> None:
    auth = Authenticator(KeysFile(keys=[key(f"k{number}") for number in range(5000)]), TENANTS)
    header = "Bearer lr-k4999"
    assert name_of(auth.identify(header, None)) == "k4999"
    best_s = min(timeit.repeat(lambda: auth.identify(header, None), number=2000, repeat=5)) / 2000
    assert best_s * 1e6 < LOOKUP_US_MAX


def test_salts_keep_tenants_and_clusters_apart() -> None:
    def salt(tenant: str, secret: str, key_id: str = "one") -> str | None:
        return cache_salt(Identity(tenant=TENANTS.get(tenant), key_id=KeyId(key_id)), secret)

    first = salt("acme", "s1")
    assert first is not None
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", first), "vLLM takes neither @ nor slashes, and 128 characters at most"
    assert first == salt("acme", "s1", "another key"), "it is the tenant's, not the key's"
    assert len({first, salt("acme", "s2"), salt("other", "s1"), salt("default", "s1")}) == 4
    assert salt("acme", "s" * 1000) is not None
    assert salt("default", "s1", NO_KEY) is None


def test_tenants_have_defaults() -> None:
    assert Tenants([]).default == Tenants([]).get(TenantName("default"))
    assert Tenants([]).get("x").requests_per_minute is None
