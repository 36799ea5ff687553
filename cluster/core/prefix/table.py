"""One replica's resident chunks: key to token position, in packed arrays.

A dict of ints takes some 100 bytes an entry and a gateway follows millions; this takes 20 to 48. What must not live
here: replicas, chains, what the tokens mean.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

SEGMENT_BITS = 4
"""16 segments that grow one at a time, by keys' top bits: moving all of a million entries at once would hold up a
gateway for a quarter of a second and take half as much memory again while it lasts."""
SEGMENT_SLOTS_MIN = 16
"""Of an empty table's segments, a power of two."""
TOKENS_MAX = 2**32 - 1
_KEY_BYTES, _TOKENS_BYTES = 8, 4
_SEGMENT_SHIFT = 64 - SEGMENT_BITS
_FREE = 0
"""No key, so that looking for one reads one array only."""
_KEY_FOR_FREE = 1
"""Stands for the key 0. Two chunks in 2**63 share it, as if they had one hash."""

_Segment = tuple["array[int]", "array[int]", int]
"""Keys, tokens and the mask that makes a slot of a key."""


class ResidencyTable:
    """Keys (unsigned 64 bit) with tokens (1 to `TOKENS_MAX`).

    Open addressing with linear probing. Keys are hashes already, so a key's low bits are its slot. Load stays between
    1/4 and 3/5: 12 bytes a slot, 20 to 48 an entry.
    """

    __slots__ = ("_count", "_counts", "_segments")

    def __init__(self, expected: int = 0) -> None:
        """An empty table with room for `expected` entries, or a few more."""
        self._allot(expected)

    def __len__(self) -> int:
        """Entries."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Keys with their tokens, in no order; the key 0 comes as 1."""
        return (entry for keys, tokens, _ in self._segments for entry in zip(keys, tokens, strict=True) if entry[0])

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return sum(len(keys) for keys, _, _ in self._segments) * (_KEY_BYTES + _TOKENS_BYTES)

    def get(self, key: int) -> int:
        """The tokens of `key`; 0 when it is absent."""
        key = key or _KEY_FOR_FREE
        keys, tokens, mask = self._segments[key >> _SEGMENT_SHIFT]
        slot = key & mask
        while (found := keys[slot]) != key and found:
            slot = (slot + 1) & mask
        return tokens[slot] if found else 0

    def leading(self, keys: Sequence[int], low: int, high: int) -> int:
        """How many of the first `high` keys are here, where the first `low` are known to be.

        A binary search: right where the table is prefix-closed, that is where a key is here only with all before it.
        """
        segments = self._segments
        while low < high:
            middle = (low + high) >> 1
            key = keys[middle] or _KEY_FOR_FREE
            held, _, mask = segments[key >> _SEGMENT_SHIFT]
            slot = key & mask
            # `get`, written out: this loop is what a lookup over many replicas spends its time in.
            while (found := held[slot]) != key and found:
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
        key = key or _KEY_FOR_FREE
        number = key >> _SEGMENT_SHIFT
        keys, positions, mask = self._segments[number]
        slot = key & mask
        while (found := keys[slot]) != key and found:
            slot = (slot + 1) & mask
        positions[slot] = tokens
        if not found:
            keys[slot] = key
            self._count += 1
            self._counts[number] = count = self._counts[number] + 1
            if 5 * count > 3 * (mask + 1):
                self._resize(number, 2 * (mask + 1))

    def discard(self, key: int) -> None:
        """Take a key out; nothing changes when it is absent."""
        key = key or _KEY_FOR_FREE
        number = key >> _SEGMENT_SHIFT
        keys, tokens, mask = self._segments[number]
        slot = key & mask
        while (found := keys[slot]) != key and found:
            slot = (slot + 1) & mask
        if not found:
            return
        # Close the gap: an entry moves into it unless its own slot lies behind the gap (Knuth, 6.4, algorithm R).
        gap = slot
        while (found := keys[slot := (slot + 1) & mask]) != _FREE:
            if (slot - found) & mask >= (slot - gap) & mask:
                keys[gap], tokens[gap] = found, tokens[slot]
                gap = slot
        keys[gap] = _FREE
        self._count -= 1
        self._counts[number] = count = self._counts[number] - 1
        if 4 * count < mask + 1 and mask + 1 > SEGMENT_SLOTS_MIN:
            self._resize(number, (mask + 1) // 2)

    def clear(self) -> None:
        """Take everything out and give the memory back."""
        self._allot(0)

    def update(self, entries: Iterable[tuple[int, int]]) -> None:
        """`put` each."""
        for key, tokens in entries:
            self.put(key, tokens)

    def _allot(self, expected: int) -> None:
        segments = 1 << SEGMENT_BITS
        slots = SEGMENT_SLOTS_MIN
        while 5 * expected > 3 * slots * segments:
            slots *= 2
        self._segments = [_segment(slots) for _ in range(segments)]
        self._counts = [0] * segments
        """Entries in each segment."""
        self._count = 0

    def _resize(self, number: int, slots: int) -> None:
        old_keys, old_tokens, _ = self._segments[number]
        self._segments[number] = keys, positions, mask = _segment(slots)
        for key, tokens in zip(old_keys, old_tokens, strict=True):
            if key:
                slot = key & mask
                while keys[slot]:
                    slot = (slot + 1) & mask
                keys[slot], positions[slot] = key, tokens


def _segment(slots: int) -> _Segment:
    return array("Q", bytes(_KEY_BYTES * slots)), array("I", bytes(_TOKENS_BYTES * slots)), slots - 1
