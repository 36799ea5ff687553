"""One replica's KV cache: blocks in use, blocks that can be reused, blocks that are empty.

Blocks that hold a prefix are grouped as the trace groups them (`Trace.block_tokens`, a chunk): a chunk is found, held,
let go and evicted as a whole. Evicted is what was let go longest ago (vLLM's free list is the same, block by block).
What must not live here: sequences, time.
"""

from __future__ import annotations

from collections.abc import Sequence

_NOTHING = 0


class KvCache:
    """Blocks by what they are: held, idle (a chunk nobody uses now, still to be found) or blank.

    Keys are chained: a key is resident only while it was computed behind all those before it. An evicted chunk in the
    middle ends what can be found, as in vLLM.
    """

    __slots__ = ("_changes", "_held", "_idle", "_tail_key", "blank", "chunk_blocks", "idle", "resident_chunks", "total")

    def __init__(self, *, blocks: int, chunk_blocks: int) -> None:
        """An empty cache.

        Args:
            blocks: it has so many.
            chunk_blocks: blocks of one chunk.
        """
        self.total = blocks
        self.chunk_blocks = chunk_blocks
        self.blank = blocks
        self.idle = 0
        """Blocks of chunks nobody uses."""
        self.resident_chunks = 0
        """Chunks that can be found, those in use included."""
        self._held: dict[int, int] = {}
        """How many sequences use a chunk."""
        self._idle: dict[int, int] = {}
        """Blocks by chunk, in the order in which they were let go."""
        self._changes: dict[int, int] = {}
        """Since the last report: tokens up to the end of a chunk that came, 0 where it went."""
        self._tail_key = -1

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return self.blank + self.idle

    @property
    def use_ratio(self) -> float:
        """What vLLM calls its KV cache usage: the share that is not free."""
        return 1.0 - (self.blank + self.idle) / self.total

    def match(self, keys: Sequence[int], most: int) -> tuple[int, int]:
        """How many of the first `most` keys are found, and how many blocks of those are idle."""
        held, idle, found, idle_blocks = self._held, self._idle, 0, 0
        for key in keys:
            if found == most:
                break
            if key in held:
                found += 1
            elif key in idle:
                found += 1
                idle_blocks += idle[key]
            else:
                break
        return found, idle_blocks

    def hold(self, keys: Sequence[int], count: int) -> None:
        """Use the first `count` keys' chunks, which are resident."""
        held, idle = self._held, self._idle
        for key in keys[:count]:
            users = held.get(key, _NOTHING)
            if not users:
                self.idle -= idle.pop(key)
            held[key] = users + 1

    def take(self, blocks: int) -> None:
        """Take so many free blocks, blank ones first; there must be as many."""
        blank = self.blank - blocks
        while blank < 0:
            key = next(iter(self._idle))
            freed = self._idle.pop(key)
            self.idle -= freed
            blank += freed
            if key >= 0:
                self._changes[key] = _NOTHING
                self.resident_chunks -= 1
        self.blank = blank

    def share(self, key: int, tokens: int) -> bool:
        """A sequence computed a chunk in blocks of its own: from now on others find it, and it is held once.

        False where another sequence was first: the blocks then stay the sequence's own.
        """
        if key in self._held or key in self._idle:
            return False
        self._held[key] = 1
        self._changes[key] = tokens
        self.resident_chunks += 1
        return True

    def let_go(self, keys: Sequence[int], count: int, own_blocks: int) -> None:
        """A sequence ends: its own blocks go first, then its chunks from the last to the first.

        Its own blocks hold its answer and the rest of its prompt: nobody will ask for them, but they are evicted in
        their turn like all others.
        """
        if own_blocks:
            self._idle[self._tail_key] = own_blocks
            self._tail_key -= 1
            self.idle += own_blocks
        held, idle, size = self._held, self._idle, self.chunk_blocks
        for key in reversed(keys[:count]):
            users = held[key] - 1
            if users:
                held[key] = users
            else:
                del held[key]
                idle[key] = size
                self.idle += size

    def changes(self) -> tuple[list[tuple[int, int]], list[int]]:
        """What came (key, tokens up to its end) and what went since the last call."""
        if not self._changes:
            return [], []
        adds = [(key, tokens) for key, tokens in self._changes.items() if tokens]
        removes = [key for key, tokens in self._changes.items() if not tokens]
        self._changes = {}
        return adds, removes
