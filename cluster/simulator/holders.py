"""Which replicas hold the first blocks of a prompt: for openings that a thousand replicas have, as a system prompt is.

What must not live here: what lies behind those blocks (`PrefixIndex`), what is expected (residency.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.core.lease import ReplicaId

DEPTH = 4
"""Blocks from the beginning that are followed: 2,048 tokens of Mooncake's. Whoever shares more is nearly always few."""
_NOBODY: dict[ReplicaId, None] = {}


class Holders:
    """Replicas by block. A replica that holds a block holds all before it."""

    def __init__(self, block_tokens: int) -> None:
        """Nobody holds anything.

        Args:
            block_tokens: of a block.
        """
        self._most_tokens = DEPTH * block_tokens
        self._by_key: dict[int, dict[ReplicaId, None]] = {}
        self._keys: dict[ReplicaId, set[int]] = {}

    def joined(self, replica_id: ReplicaId) -> None:
        """A replica that holds nothing."""
        self._keys[replica_id] = set()

    def left(self, replica_id: ReplicaId) -> None:
        """A replica is gone."""
        self._remove(replica_id, self._keys.pop(replica_id, ()))

    def update(self, replica_id: ReplicaId, adds: Iterable[tuple[int, int]], removes: Iterable[int]) -> None:
        """What came (key, tokens up to the block's end) and went at a replica."""
        keys, by_key = self._keys[replica_id], self._by_key
        gone = keys.intersection(removes)
        keys -= gone
        self._remove(replica_id, gone)
        for key, tokens in adds:
            if tokens <= self._most_tokens:
                keys.add(key)
                holders = by_key.get(key)
                if holders is None:
                    by_key[key] = {replica_id: None}
                else:
                    holders[replica_id] = None

    def of(self, key: int) -> dict[ReplicaId, None]:
        """Who holds one of the first `DEPTH` blocks; to read."""
        return self._by_key.get(key, _NOBODY)

    def levels(self, keys: Sequence[int]) -> list[dict[ReplicaId, None]]:
        """Who holds each of the first `DEPTH` blocks, up to the first that nobody holds; to read."""
        found = []
        for key in keys[:DEPTH]:
            holders = self._by_key.get(key)
            if not holders:
                break
            found.append(holders)
        return found

    def _remove(self, replica_id: ReplicaId, keys: Iterable[int]) -> None:
        by_key = self._by_key
        for key in keys:
            holders = by_key[key]
            del holders[replica_id]
            if not holders:
                del by_key[key]
