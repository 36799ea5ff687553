"""One block of the engine's cache, as the tree keeps it.

What must not live here: the tree.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b
from typing import NamedTuple

BlockHash = bytes | int
"""vLLM's: 32 bytes, or the low 64 bits of them where its environment says so."""
PATH_BYTES = 16
NO_PATH = b""
"""Before the first block."""


class Standing(Enum):
    """Whether a block's tokens are what the tokenizer makes of their text."""

    PROVEN = auto()
    """They were tokenized from a prompt."""
    CHECKED = auto()
    """They were tokenized anew, to the same."""
    DOUBTFUL = auto()
    REFUTED = auto()


class Doubt(NamedTuple):
    """A block to be tokenized anew."""

    block: BlockHash
    tokens: array[int]
    """Its own, after up to `CONTEXT_TOKENS` or more before them."""
    starts_at: int
    """How many tokens of the prompt lie before `tokens`."""
    context: int
    """How many of `tokens` are before the block."""


@dataclass(slots=True)
class Block:
    """A block the engine has."""

    parent: BlockHash | None
    ends_at: int
    """Tokens up to its end."""
    tokens: array[int]
    path: bytes
    """Names all tokens up to its end, whatever adapter or salt."""
    digest: bytes | None
    """The chain's, after the last chunk that ends in it or before it; None where the block has no known text."""
    rest: bytes
    """The text after that chunk."""
    chunks: list[tuple[int, int]]
    """Keys and tokens of the chunks that end in it."""
    standing: Standing
    copies: int = 1
    """In the engine's own cache."""
    is_resident: bool = False


def next_path(path: bytes, tokens: array[int]) -> bytes:
    """The path of a block with these tokens (array("I")), after the one with `path`."""
    return blake2b(path + tokens.tobytes(), digest_size=PATH_BYTES).digest()
