"""What Redis keeps of prompts, by the fingerprint of those who can read it, as a gateway remembers it.

Hints, not truth: Redis drops blocks by itself. So entries age: they are kept in two generations, and the older one goes
when the younger has lasted half of a block's life. What must not live here: Redis, clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.core.prefix.chain import PrefixChain
from cluster.core.prefix.index import tokens_found
from cluster.core.prefix.table import ResidencyTable

GENERATION_MAX = 500_000
"""Chunks of one generation: 24 MB; a fuller one ages early."""


@dataclass(slots=True)
class _Generations:
    life_s: float
    began_s: float
    young: ResidencyTable = field(default_factory=ResidencyTable)
    old: ResidencyTable = field(default_factory=ResidencyTable)

    def get(self, key: int) -> int:
        return self.young.get(key) or self.old.get(key)

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def leading(self, keys: Sequence[int], low: int, high: int) -> int:
        while low < high:
            middle = (low + high) >> 1
            if self.get(keys[middle]):
                low = middle + 1
            else:
                high = middle
        return low

    def turn(self, now_s: float) -> None:
        halves = int((now_s - self.began_s) // (self.life_s / 2))
        if halves:
            self.young, self.old = ResidencyTable(), self.young if halves == 1 else ResidencyTable()
            self.began_s += halves * self.life_s / 2
        elif len(self.young) >= GENERATION_MAX:
            self.young, self.old = ResidencyTable(), self.young
            self.began_s = now_s


class KeptPrefixes:
    """Chunks in Redis, by fingerprint. Times are seconds of one clock, which only grows."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[str, _Generations] = {}

    def __len__(self) -> int:
        """Chunks."""
        return sum(len(table) for table in self._tables.values())

    def add(self, fingerprint: str, adds: Iterable[tuple[int, int]], *, life_s: float, now_s: float) -> None:
        """Chunks (keys with tokens) are in Redis for `life_s`, as of now."""
        table = self._tables.get(fingerprint)
        if table is None:
            table = self._tables[fingerprint] = _Generations(life_s, now_s)
        table.life_s = life_s
        table.turn(now_s)
        table.young.update(adds)

    def forget(self, fingerprint: str) -> None:
        """Nobody can read it any more, or it is gone."""
        self._tables.pop(fingerprint, None)

    def tokens(
        self, chain: PrefixChain, fingerprint: str, *, block_tokens: int, prompt_tokens: int | None, now_s: float
    ) -> int:
        """Prompt tokens of the chain that are in Redis, as `predicted_tokens` estimates them.

        Where Redis lost a block from the middle, the search may look past the gap: the estimate then is too high.
        """
        table = self._tables.get(fingerprint)
        if table is None or not len(chain):
            return 0
        table.turn(now_s)
        return tokens_found(chain, table, block_tokens=block_tokens, prompt_tokens=prompt_tokens)
