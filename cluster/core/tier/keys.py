"""The names of KV blocks in Redis.

`kvb:FINGERPRINT:TAG:BLOCK`: the fingerprint says what may read the bytes, the tag whose they are, the block which. The
tenant's salt is in the block's hash already, so the tag protects nothing: it lets `longreach cache` count and clear one
tenant's blocks. Beside the blocks of a fingerprint lie a few small records; their names have one colon less. What must
not live here: Redis, what a fingerprint is made of (cluster/engine/tier/fingerprint.py).
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

PREFIX = "kvb"
FINGERPRINT_DIGITS = 24
TAG_DIGITS = 8
"""32 bits: enough to tell the tenants of a cluster apart, too few to find a salt by."""
NO_TAG = "0" * TAG_DIGITS
"""Of requests without a salt."""
_TAG = re.compile(rf"[0-9a-f]{{{TAG_DIGITS}}}(\.[0-9a-f]{{{TAG_DIGITS}}})?")
_BLOCK = re.compile(
    rb"%b:([0-9a-f]{%d}):([0-9a-f]{%d})(\.[0-9a-f]{%d})?:.+"
    % (PREFIX.encode(), FINGERPRINT_DIGITS, TAG_DIGITS, TAG_DIGITS),
    re.DOTALL,
)
_ABOUT = re.compile(rb"%b:([0-9a-f]{%d}):about-[0-9a-f]{%d}" % (PREFIX.encode(), FINGERPRINT_DIGITS, TAG_DIGITS))
EVERYTHING = f"{PREFIX}:*".encode()
"""What to SCAN for: blocks and the records beside them."""


class BlockOwner(NamedTuple):
    """What a block's name says of it."""

    fingerprint: str
    tenant_tag: str
    """Without the adapter's part."""


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


def sample_key(fingerprint: str, number: str) -> bytes:
    """Where one replica puts a value that it times Redis with; no pattern for blocks matches it."""
    return f"{PREFIX}:{fingerprint}:sample-{number}".encode()


def about_key(fingerprint: str, model: str) -> bytes:
    """Where replicas of one fingerprint say what it stands for; models of equal content have one record each."""
    return f"{PREFIX}:{fingerprint}:about-{hashlib.sha256(model.encode()).hexdigest()[:TAG_DIGITS]}".encode()


def owner_of(key: bytes) -> BlockOwner | None:
    """Whose block this is; None where the key is not a block's."""
    found = _BLOCK.fullmatch(key)
    return None if found is None else BlockOwner(found[1].decode(), found[2].decode())


def about_fingerprint(key: bytes) -> str | None:
    """The fingerprint that the record under this key is about; None for any other key."""
    found = _ABOUT.fullmatch(key)
    return None if found is None else found[1].decode()


def pattern(*, fingerprint: str | None = None, tenant_tag: str | None = None) -> bytes:
    """What to SCAN for: the blocks of a fingerprint, of a tenant whatever the adapter, of both, or all.

    It finds no other key of ours. A block's own bytes may hold anything, so that it can find a block too many, once in
    an age: `owner_of` decides.

    Args:
        fingerprint: None for every fingerprint.
        tenant_tag: without an adapter's part; None for every tenant.
    """
    return f"{PREFIX}:{fingerprint or '?' * FINGERPRINT_DIGITS}:{tenant_tag or '?' * TAG_DIGITS}*:*".encode()
