"""The engine's salt: different for every tenant and adapter, and the tenant's part can be had back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.tier.salt import engine_salt, tenant_salt

SALTS = st.none() | st.text(min_size=1, max_size=64)
DIGESTS = st.text("0123456789abcdef", min_size=32, max_size=32)


@given(SALTS, DIGESTS)
def test_the_tenants_part_comes_back(salt: str | None, digest: str) -> None:
    assert tenant_salt(engine_salt(salt, digest)) == salt
    assert tenant_salt(engine_salt(engine_salt(salt, digest), digest)) == engine_salt(salt, digest)


@given(SALTS, DIGESTS, SALTS, DIGESTS)
def test_equal_only_for_equal_tenant_and_content(a: str | None, x: str, b: str | None, y: str) -> None:
    assert (engine_salt(a, x) == engine_salt(b, y)) == ((a, x) == (b, y))


@pytest.mark.parametrize("salt", [None, "", "Zm9vYmFy-_", "a~lora-", "~lora-00"])
def test_a_salt_without_an_adapter_is_left_alone(salt: str | None) -> None:
    assert tenant_salt(salt) == salt


def test_vllm_takes_it() -> None:
    made = engine_salt("A" * 22, "f" * 64)
    assert len(made) <= 128
    assert not set("@/\\\0") & set(made)
    with pytest.raises(ValueError, match="digits"):
        engine_salt(None, "abc")
