"""Which replicas hold a block: the prefix index turned around, for blocks that a thousand replicas hold.

What must not live here: what is expected (residency.py), chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.core.lease import ReplicaId
from cluster.core.prefix import predicted_tokens

_NOBODY: dict[ReplicaId, None] = {}


class Holders:
    """Replicas by block. A replica that holds a block holds all before it."""

    def __init__(self) -> None:
        self._by_key: dict[int, dict[ReplicaId, None]] = {}
        self._keys: dict[ReplicaId, set[int]] = {}

    def joined(self, replica_id: ReplicaId) -> None:
        """A replica that holds nothing."""
        self._keys[replica_id] = set()

    def left(self, replica_id: ReplicaId) -> None:
        """A replica is gone."""
        self._remove(replica_id, self._keys.pop(replica_id, ()))

    def update(self, replica_id: ReplicaId, adds: Iterable[int], removes: Iterable[int]) -> None:
        """What came and went at a replica."""
        keys = self._keys[replica_id]
        gone = keys.intersection(removes)
        keys -= gone
        self._remove(replica_id, gone)
        by_key = self._by_key
        for key in adds:
            keys.add(key)
            holders = by_key.get(key)
            if holders is None:
                by_key[key] = {replica_id: None}
            else:
                holders[replica_id] = None

    def of(self, key: int) -> dict[ReplicaId, None]:
        """Who holds a block; to read."""
        return self._by_key.get(key, _NOBODY)

    def resident(self, keys: Sequence[int], block_tokens: int, prompt_tokens: int | None) -> dict[ReplicaId, int]:
        """What `PrefixIndex.resident` says of a chain with these keys: tokens by replica, longest first."""
        levels = []
        for key in keys:
            holders = self._by_key.get(key)
            if not holders:
                break
            levels.append(holders)
        found: dict[ReplicaId, int] = {}
        for depth in range(len(levels), 0, -1):
            if len(levels[depth - 1]) > len(found):
                tokens = predicted_tokens(
                    tokens=depth * block_tokens,
                    chunk_tokens=block_tokens,
                    block_tokens=block_tokens,
                    prompt_tokens=prompt_tokens,
                )
                if tokens:
                    # Who is found already holds more, and keeps both its place and its tokens.
                    found = {**found, **dict.fromkeys(levels[depth - 1], tokens), **found}
        return found

    def _remove(self, replica_id: ReplicaId, keys: Iterable[int]) -> None:
        by_key = self._by_key
        for key in keys:
            holders = by_key[key]
            del holders[replica_id]
            if not holders:
                del by_key[key]
