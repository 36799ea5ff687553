"""Which chunks of text are kept in Redis, as far as this replica had to do with them, for gateways to know.

The tier names blocks that it has just stored, loaded, or found there already. Their chunks are told once the tree knows
them, and again when a good part of their life has passed. Redis drops blocks without a word, so what is told is a hint:
a gateway forgets it after that life, and the engine finds out the truth. What must not live here: vLLM's events, Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from cluster.engine.residency.block import BlockHash
from cluster.engine.residency.tree import BlockTree

WAITING_MAX = 16_384
"""Blocks whose text is not known yet; of more, the oldest are forgotten."""
WAIT_S = 60.0
"""What is not known by then was evicted, or is no text."""
TOLD_MAX = 262_144
"""Chunks remembered as told, 60M characters of prompts; who is forgotten is told again."""
AGAIN_RATIO = 0.25
"""Share of their life after which chunks in use are told again."""


class KeptBlocks:
    """Chunks of blocks in Redis that are to be told.

    Args:
        tree: what the engine has.
        life_s: how long Redis keeps a block after its last use.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, tree: BlockTree, *, life_s: float, clock: Callable[[], float]) -> None:
        self._tree = tree
        self._again_s = AGAIN_RATIO * life_s
        self._clock = clock
        self._waiting: dict[BlockHash, float] = {}
        self._untold: dict[int, int] = {}
        self._told: dict[int, float] = {}

    def kept(self, block: BlockHash) -> None:
        """Redis has this block."""
        if not self._resolve(block):
            self._waiting.pop(block, None)
            self._waiting[block] = self._clock()
            if len(self._waiting) > WAITING_MAX:
                del self._waiting[next(iter(self._waiting))]

    def take(self, limit: int) -> list[tuple[int, int]]:
        """Keys and tokens of up to `limit` chunks that are to be told now."""
        late_s = self._clock() - WAIT_S
        for block, since_s in list(self._waiting.items()):
            if self._resolve(block) or since_s < late_s:
                del self._waiting[block]
        for key in list(islice(self._told, max(0, len(self._told) - TOLD_MAX))):
            del self._told[key]
        taken = list(islice(self._untold.items(), limit))
        for key, _ in taken:
            del self._untold[key]
        return taken

    def _resolve(self, block: BlockHash) -> bool:
        """Note the chunks of a block if they are known."""
        chunks = self._tree.resident_chunks(block)
        now_s = self._clock()
        for key, tokens in chunks:
            told_s = self._told.get(key)
            if told_s is None or told_s + self._again_s <= now_s:
                self._told.pop(key, None)
                self._told[key] = now_s
                self._untold[key] = tokens
        return bool(chunks)
