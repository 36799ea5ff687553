"""The salt an engine mixes into its block hashes: the tenant's, and the content of the request's adapter.

vLLM's hashes know an adapter by its name and path. An adapter that was trained anew under both would find the old one's
blocks in Redis; with its digest in the salt, no cache of the engine's confuses the two. Gateways know the tenant's
salt only. What must not live here: how digests and tenants' salts are made.
"""

from __future__ import annotations

import re

DIGEST_DIGITS = 32
"""128 bits; with a tenant's salt well under the 128 characters that vLLM takes."""
_MIXED = re.compile(rf"(.*)~lora-[0-9a-f]{{{DIGEST_DIGITS}}}", re.DOTALL)


def engine_salt(salt: str | None, adapter_digest: str) -> str:
    """For a request with an adapter.

    Args:
        salt: the tenant's; None without one.
        adapter_digest: hex digest of the adapter's content, of at least `DIGEST_DIGITS` digits.
    """
    if len(adapter_digest) < DIGEST_DIGITS:
        raise ValueError(f"a digest of {len(adapter_digest)} digits")
    return f"{salt or ''}~lora-{adapter_digest[:DIGEST_DIGITS]}"


def tenant_salt(salt: str | None) -> str | None:
    """The tenant's part of an engine's salt; what has no adapter in it comes back as it is."""
    mixed = _MIXED.fullmatch(salt or "")
    return salt if mixed is None else mixed[1] or None
