"""What a replica's lease says of its cache, so that gateways make the replica's keys and never guess.

What must not live here: the lease, how digests are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from cluster.core.prefix.chain import CHAIN_FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixFacts:
    """How the replica makes chains. Equal facts, equal keys."""

    model_digest: str
    """For `chain_root`."""
    chunk_bytes: int
    block_tokens: int
    """Tokens in a cache block of the engine."""
    adapters: Mapping[str, str] = field(hash=False)
    """The digest of each loaded adapter's content, by the adapter's name."""

    def to_dict(self) -> dict[str, Any]:
        """As the lease carries it."""
        return {
            "format": CHAIN_FORMAT,
            "model_digest": self.model_digest,
            "chunk_bytes": self.chunk_bytes,
            "block_tokens": self.block_tokens,
            "adapters": dict(self.adapters),
        }

    @classmethod
    def from_dict(cls, data: object) -> PrefixFacts | None:
        """Read what a lease carries; None where it is not understood, as from a replica of another version."""
        if not isinstance(data, Mapping) or data.get("format") != CHAIN_FORMAT:
            return None
        model_digest, adapters = data.get("model_digest"), data.get("adapters")
        chunk_bytes, block_tokens = data.get("chunk_bytes"), data.get("block_tokens")
        if not isinstance(model_digest, str) or not _is_count(chunk_bytes) or not _is_count(block_tokens):
            return None
        if not isinstance(adapters, Mapping):
            return None
        if not all(isinstance(name, str) and isinstance(digest, str) for name, digest in adapters.items()):
            return None
        return cls(
            model_digest=model_digest, chunk_bytes=chunk_bytes, block_tokens=block_tokens, adapters=dict(adapters)
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
