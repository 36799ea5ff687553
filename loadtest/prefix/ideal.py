"""What would have to be computed at the least: every block of tokens once, by whoever needs it first.

An engine reuses whole blocks from a prompt's start, and computes at least its last token. The ideal is one cache that
has no end and that every request can read: what two policies are measured against, and neither can beat. What must not
live here: tokenizing, policies.
"""

from __future__ import annotations

from collections.abc import Sequence


class IdealCache:
    """The cache of one tenant's dreams.

    Args:
        block_tokens: tokens in a block of the engine's cache.
    """

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}
        """A block by the number of the one before it and its tokens: its own number, from 1."""

    @property
    def tokens(self) -> int:
        """What the cache holds: the room that nothing has to be evicted in."""
        return len(self._known) * self._block_tokens

    def computed(self, prompt: Sequence[int]) -> int:
        """How many tokens of `prompt` have to be computed."""
        reusable = max(len(prompt) - 1, 0) // self._block_tokens
        found = parent = 0
        for block in self._blocks(prompt)[:reusable]:
            number = self._known.get((parent, block))
            if number is None:
                break
            parent = number
            found += 1
        return len(prompt) - found * self._block_tokens

    def learn(self, tokens: Sequence[int]) -> None:
        """These were computed: a prompt, and its answer."""
        parent = 0
        for block in self._blocks(tokens):
            parent = self._known.setdefault((parent, block), len(self._known) + 1)

    def _blocks(self, tokens: Sequence[int]) -> list[tuple[int, ...]]:
        size = self._block_tokens
        return [tuple(tokens[start : start + size]) for start in range(0, len(tokens) - size + 1, size)]
