"""What the tests of residency share: a tree over one-byte tokens, and what a gateway would make of its changes.

What must not live here: tests.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from cluster.core.prefix import PrefixChain, chain_root
from cluster.engine.residency.block import NO_PATH, next_path
from cluster.engine.residency.tree import BlockTree

CHUNK_BYTES = 4
BLOCK_TOKENS = 2
TABLE: list[bytes | None] = [bytes([97 + token]) * (1 + token % 3) for token in range(26)]
"""Tokens of one to three bytes."""


def root(adapter: str | None, salt: str | None) -> bytes | None:
    return None if adapter == "unknown" else chain_root(model_digest="m", adapter_digest=adapter or "", salt=salt or "")


def tree(*, block_tokens: int = BLOCK_TOKENS, chunk_bytes: int = CHUNK_BYTES) -> BlockTree:
    return BlockTree(root_of=root, token_bytes=TABLE, chunk_bytes=chunk_bytes, block_tokens=block_tokens)


def text_of(tokens: Sequence[int]) -> bytes:
    return b"".join(TABLE[token] or b"" for token in tokens)


def expected(
    prefixes: Sequence[Sequence[int]],
    *,
    salt: str | None = None,
    adapter: str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> dict[int, int]:
    """The resident keys with their tokens where these runs of whole blocks are resident from the first token on."""
    found: dict[int, int] = {}
    start = root(adapter, salt)
    assert start is not None
    for tokens in prefixes:
        chain = PrefixChain(start, text_of(tokens), chunk_bytes)
        ends = [len(text_of(tokens[: count + 1])) for count in range(len(tokens))]
        for place in range(len(chain)):
            found[chain.key(place)] = max(1, sum(end <= (place + 1) * chunk_bytes for end in ends))
    return found


def paths(tokens: Sequence[int], block_tokens: int = BLOCK_TOKENS) -> Iterator[bytes]:
    path = NO_PATH
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        path = next_path(path, array("I", tokens[start : start + block_tokens]))
        yield path


class Mirror:
    """A gateway's table, from updates alone."""

    def __init__(self) -> None:
        self.table: dict[int, int] = {}

    def take(self, made: BlockTree, limit: int = 65_536) -> None:
        while made.keys.has_changes:
            changes = made.keys.take_changes(limit)
            if changes.is_cleared:
                self.table.clear()
            assert len(changes.adds) + len(changes.removes) <= limit
            assert not {key for key, _ in changes.adds} & set(changes.removes)
            for key in changes.removes:
                self.table.pop(key, None)
            self.table.update(changes.adds)


def entries(made: BlockTree) -> dict[int, int]:
    keys, tokens = made.keys.entries()
    return dict(zip(keys, tokens, strict=True))
