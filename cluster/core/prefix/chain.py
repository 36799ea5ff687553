"""A prompt's chunks as a chain of hashes: equal keys mean equal text from the first byte on, under one root.

Gateways make a chain from the rendered prompt, replicas from the bytes of the tokens their engine has cached; both must
come to the same keys. What must not live here: rendering, tokens, who holds what.
"""

from __future__ import annotations

import struct
from hashlib import sha256

CHAIN_FORMAT = 1
"""Part of every root. Raise it when keys are made differently: chains of two formats then share nothing."""
ROOT_BYTES = 16
DIGEST_BYTES = 16
"""What a link keeps of SHA-256: 128 bits, so that nobody finds two texts with one digest."""
KEY_BYTES = 8
"""What the index keeps of a digest. Two chunks of a million meet in 64 bits with a chance of 1 in 37 million; the price
would be a wrong estimate, never a wrong answer, since engines compare hashes of their own."""
CHUNK_BYTES_MIN = 64
"""Smaller chunks cost more to hash than they tell: 800 KB in chunks of 64 bytes take some 5 ms."""
CHUNK_BYTES_MAX = 512
_LENGTH_BYTES = 4
_LINK = slice(DIGEST_BYTES)
_KEY_OF_DIGEST = f"Q{sha256().digest_size - KEY_BYTES}x"


def chain_root(*, model_digest: str, adapter_digest: str, salt: str) -> bytes:
    """Where chains begin; `ROOT_BYTES` long. Chains of two roots share no key.

    Args:
        model_digest: of everything that decides which cache blocks a text gives: weights, tokenizer, template.
        adapter_digest: of the LoRA adapter's content; empty without one.
        salt: what keeps tenants apart; empty where they share.
    """
    parts = (part.encode("utf-8", "surrogatepass") for part in (model_digest, adapter_digest, salt))
    # Lengths first: otherwise "ab", "c" and "a", "bc" would be one root.
    text = b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)
    return sha256(b"longreach-prefix-chain" + CHAIN_FORMAT.to_bytes(_LENGTH_BYTES, "big") + text).digest()[:ROOT_BYTES]


def next_digest(digest: bytes, chunk: bytes) -> bytes:
    """The digest after `chunk`, from the one before it (the root before the first): sha256(digest + chunk)[:16]."""
    return sha256(digest + chunk).digest()[:DIGEST_BYTES]


def key_of(digest: bytes) -> int:
    """A digest's key in tables and messages: its first 8 bytes, big-endian, unsigned."""
    return int.from_bytes(digest[:KEY_BYTES], "big")


def chunk_bytes_for(block_tokens: int) -> int:
    """The chunk size for an engine whose cache blocks hold `block_tokens` tokens.

    The largest power of two that is at most twice the block: text has 2 bytes a token or more, mostly 4, so that a
    chunk holds about one block at most, and where in a chunk two prompts part shifts the estimate by one block at most.
    """
    if block_tokens < 1:
        raise ValueError(f"a block of {block_tokens} tokens")
    size = 1 << ((2 * block_tokens).bit_length() - 1)
    return min(max(size, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX)


class PrefixChain:
    """The keys of a prompt's whole chunks; hashed when asked for, each once."""

    __slots__ = ("_chunk_bytes", "_count", "_digest", "_text", "hashed")

    def __init__(self, root: bytes, text: bytes, chunk_bytes: int) -> None:
        """Nothing is hashed yet.

        Args:
            root: from `chain_root`.
            text: the rendered prompt in UTF-8. What follows the last whole chunk is not looked at.
            chunk_bytes: from the replicas' `PrefixFacts`.

        Raises:
            ValueError: the root has another length than `ROOT_BYTES`, or a chunk has no byte.
        """
        if len(root) != ROOT_BYTES:
            raise ValueError(f"a root of {len(root)} bytes, not {ROOT_BYTES}")
        if chunk_bytes < 1:
            raise ValueError(f"chunks of {chunk_bytes} bytes")
        self._text = text
        self._chunk_bytes = chunk_bytes
        self._count = len(text) // chunk_bytes
        self._digest = root
        self.hashed: list[int] = []
        """The keys hashed so far, first chunk first. For reading."""

    def __len__(self) -> int:
        """Whole chunks, hashed or not."""
        return self._count

    def key(self, place: int) -> int:
        """The key of chunk `place`, counted from 0.

        Raises:
            IndexError: there is no such chunk.
        """
        if not 0 <= place < self._count:
            raise IndexError(f"chunk {place} of {self._count}")
        if place >= len(self.hashed):
            self.hash_to(place + 1)
        return self.hashed[place]

    def hash_to(self, count: int) -> None:
        """Have the first `count` keys in `hashed`, or all where there are fewer."""
        text, size, digest, link = self._text, self._chunk_bytes, self._digest, _LINK
        digests: list[bytes] = []
        sha, add = sha256, digests.append
        # next_digest and key_of, written out and the keys read in one go: calls would be half of the time.
        for start in range(len(self.hashed) * size, min(count, self._count) * size, size):
            digest = sha(digest[link] + text[start : start + size]).digest()
            add(digest)
        self._digest = digest
        self.hashed += struct.unpack(">" + _KEY_OF_DIGEST * len(digests), b"".join(digests))
