"""The names of KV blocks in Redis.

`kvb:FINGERPRINT:TAG:BLOCK`: the fingerprint says what may read the bytes, the tag whose they are, the block which. The
tenant's salt is in the block's hash already, so the tag protects nothing: it lets `longreach cache` count and clear one
tenant's blocks. What must not live here: Redis, what a fingerprint is made of (cluster/engine/tier/fingerprint.py).
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "kvb"
FINGERPRINT_DIGITS = 24
TAG_DIGITS = 8
"""32 bits: enough to tell the tenants of a cluster apart, too few to find a salt by."""
NO_TAG = "0" * TAG_DIGITS
"""Of requests without a salt."""
_TAG = re.compile(rf"[0-9a-f]{{{TAG_DIGITS}}}(\.[0-9a-f]{{{TAG_DIGITS}}})?")


def tag_of(salt: str | None, adapter_digest: str | None = None) -> str:
    """The tag of a request.

    Args:
        salt: the tenant's cache salt.
        adapter_digest: hex digest of the adapter's content; vLLM's block hash knows adapters by name and path only.
    """
    tag = hashlib.sha256(f"longreach-tag:{salt}".encode()).hexdigest()[:TAG_DIGITS] if salt else NO_TAG
    return tag if adapter_digest is None else f"{tag}.{adapter_digest[:TAG_DIGITS]}"


def is_tag(text: object) -> bool:
    """Whether this is what `tag_of` makes."""
    return isinstance(text, str) and _TAG.fullmatch(text) is not None


def block_key(fingerprint: str, tag: str, block: bytes) -> bytes:
    """The key of one block."""
    return f"{PREFIX}:{fingerprint}:{tag}:".encode() + block


def speed_key(fingerprint: str) -> bytes:
    """Where replicas of one fingerprint leave how fast they prefill, for those that have not prefilled yet."""
    return f"{PREFIX}:{fingerprint}:speed".encode()


def pattern(*, fingerprint: str | None = None, salt: str | None = None, any_salt: bool = True) -> bytes:
    """What to SCAN for: the blocks of a fingerprint, of a salt, of both, or all.

    Args:
        fingerprint: None for every fingerprint.
        salt: with `any_salt` False, whose blocks; None means those of requests without a salt.
        any_salt: whether `salt` is left out of account.
    """
    tag = "*" if any_salt else f"{tag_of(salt)}*"
    return f"{PREFIX}:{fingerprint or '*'}:{tag}:*".encode()
