"""One replica's resident chunks: key to token position, in packed arrays.

A dict of ints takes some 100 bytes an entry and a gateway follows millions; this takes 18 to 48. What must not live
here: replicas, chains, what the tokens mean.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

CAPACITY_MIN = 16
"""Slots of an empty table, a power of two."""
TOKENS_MAX = 2**32 - 1


class ResidencyTable:
    """Keys (unsigned 64 bit) with tokens (1 to `TOKENS_MAX`).

    Open addressing with linear probing. Keys are hashes already, so a key's low bits are its slot; a slot without
    tokens is free, so 0 is a key like any other. Load stays between 1/4 and 2/3 (12 bytes a slot: 18 to 48 an entry).
    """

    __slots__ = ("_count", "_keys", "_mask", "_tokens")

    def __init__(self, expected: int = 0) -> None:
        """An empty table with room for `expected` entries."""
        self._allot(_capacity_for(expected))

    def __len__(self) -> int:
        """Entries."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Keys with their tokens, in no order."""
        return ((key, tokens) for key, tokens in zip(self._keys, self._tokens, strict=True) if tokens)

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return len(self._keys) * (self._keys.itemsize + self._tokens.itemsize)

    def get(self, key: int) -> int:
        """The tokens of `key`; 0 when it is absent."""
        keys, tokens, mask = self._keys, self._tokens, self._mask
        slot = key & mask
        while (found := tokens[slot]) and keys[slot] != key:
            slot = (slot + 1) & mask
        return found

    def leading(self, keys: Sequence[int], low: int, high: int) -> int:
        """How many of the first `high` keys are here, where the first `low` are known to be.

        A binary search: right where the table is prefix-closed, that is where a key is here only with all before it.
        """
        slots, tokens, mask = self._keys, self._tokens, self._mask
        while low < high:
            middle = (low + high) >> 1
            key = keys[middle]
            slot = key & mask
            # `get`, written out: this loop is what a lookup over many replicas spends its time in.
            while (found := tokens[slot]) and slots[slot] != key:
                slot = (slot + 1) & mask
            if found:
                low = middle + 1
            else:
                high = middle
        return low

    def put(self, key: int, tokens: int) -> None:
        """Add a key, or give it other tokens.

        Raises:
            ValueError: `tokens` is not in 1 to `TOKENS_MAX`.
        """
        if not 1 <= tokens <= TOKENS_MAX:
            raise ValueError(f"{tokens} tokens")
        keys, held, mask = self._keys, self._tokens, self._mask
        slot = key & mask
        while held[slot] and keys[slot] != key:
            slot = (slot + 1) & mask
        keys[slot] = key
        if not held[slot]:
            self._count += 1
        held[slot] = tokens
        if 3 * self._count > 2 * (mask + 1):
            self._resize(2 * (mask + 1))

    def discard(self, key: int) -> None:
        """Take a key out; nothing changes when it is absent."""
        keys, tokens, mask = self._keys, self._tokens, self._mask
        slot = key & mask
        while tokens[slot] and keys[slot] != key:
            slot = (slot + 1) & mask
        if not tokens[slot]:
            return
        # Close the gap: an entry moves into it unless its own slot lies behind the gap (Knuth, 6.4, algorithm R).
        gap = slot
        while tokens[slot := (slot + 1) & mask]:
            if (slot - keys[slot]) & mask >= (slot - gap) & mask:
                keys[gap], tokens[gap] = keys[slot], tokens[slot]
                gap = slot
        tokens[gap] = 0
        self._count -= 1
        if 4 * self._count < mask + 1 and mask + 1 > CAPACITY_MIN:
            self._resize((mask + 1) // 2)

    def clear(self) -> None:
        """Take everything out and give the memory back."""
        self._allot(CAPACITY_MIN)

    def update(self, entries: Iterable[tuple[int, int]]) -> None:
        """`put` each."""
        for key, tokens in entries:
            self.put(key, tokens)

    def _allot(self, capacity: int) -> None:
        self._keys = array("Q", bytes(8 * capacity))
        self._tokens = array("I", bytes(4 * capacity))
        self._mask = capacity - 1
        self._count = 0

    def _resize(self, capacity: int) -> None:
        entries = iter(self)
        self._allot(capacity)
        self.update(entries)


def _capacity_for(count: int) -> int:
    """The smallest power of two that is at most 2/3 full with `count` entries."""
    capacity = CAPACITY_MIN
    while 3 * count > 2 * capacity:
        capacity *= 2
    return capacity
