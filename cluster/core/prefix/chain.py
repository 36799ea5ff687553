"""A prompt's chunks as a chain of hashes: equal keys mean equal text from the first byte on, under one root.

Gateways make a chain from the rendered prompt, replicas from the bytes of the tokens their engine has cached; both must
come to the same keys. What must not live here: rendering, tokens, who holds what.
"""

from __future__ import annotations

from hashlib import sha256

CHAIN_FORMAT = 1
"""Part of every root. Raise it when keys are made differently: chains of two formats then share nothing."""
ROOT_BYTES = 16
"""What is kept of SHA-256 in roots and links: 128 bits, so that nobody finds two texts with one digest."""
LINK_BYTES = 1_024
"""Text in one link. Its chunks' keys hash it from its start, and only links follow one another: a gateway hashes the
links one by one and of the chunks between only those it asks for. 800 KB take 0.7 ms so; hashed one after another, its
chunks of 256 bytes take 1.5 ms and those of 64 bytes 5 ms. Longer links gain little and make digests longer."""
KEY_BYTES = 8
"""What the index keeps of a digest. Two chunks of a million meet in 64 bits with a chance of 1 in 37 million; the price
would be a wrong estimate, never a wrong answer, since engines compare hashes of their own."""
CHUNK_BYTES_MIN = 64
CHUNK_BYTES_MAX = 512
_LENGTH_BYTES = 4


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
    """The digest after `chunk`, from the one before it (the root before the first).

    A digest is the hash up to where its link began, `ROOT_BYTES` long, and the link's text so far, under `LINK_BYTES`.
    """
    digest += chunk
    return digest if len(digest) < ROOT_BYTES + LINK_BYTES else sha256(digest).digest()[:ROOT_BYTES]


def key_of(digest: bytes) -> int:
    """A digest's key in tables and messages: the first 8 bytes of the SHA-256 it ends in, big-endian, unsigned."""
    return int.from_bytes((digest if len(digest) == ROOT_BYTES else sha256(digest).digest())[:KEY_BYTES], "big")


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

    __slots__ = ("_chunk_bytes", "_count", "_keys", "_links", "_text", "chunks_per_link", "link_keys")

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
        self._keys: dict[int, int] = {}
        self._links = [root]
        self.chunks_per_link = -(-LINK_BYTES // chunk_bytes)
        self.link_keys: list[int] = []
        """The keys of links' last chunks, as far as links are hashed. For reading."""

    def __len__(self) -> int:
        """Whole chunks, hashed or not."""
        return self._count

    @property
    def link_count(self) -> int:
        """Whole links, hashed or not."""
        return self._count // self.chunks_per_link

    def key(self, place: int) -> int:
        """The key of chunk `place`, counted from 0.

        Raises:
            IndexError: there is no such chunk.
        """
        if not 0 <= place < self._count:
            raise IndexError(f"chunk {place} of {self._count}")
        key = self._keys.get(place)
        if key is None:
            link, within = divmod(place, self.chunks_per_link)
            start, end = (place - within) * self._chunk_bytes, (place + 1) * self._chunk_bytes
            self.hash_links(link)
            digest = sha256(self._links[link] + self._text[start:end]).digest()
            key = self._keys[place] = int.from_bytes(digest[:KEY_BYTES], "big")
        return key

    def hash_links(self, count: int) -> None:
        """Have the first `count` keys in `link_keys`, or all where there are fewer links."""
        done = len(self.link_keys)
        if count <= done:
            return
        text, size, digest, add = (
            self._text,
            self.chunks_per_link * self._chunk_bytes,
            self._links[-1],
            self._links.append,
        )
        for start in range(done * size, min(count, self.link_count) * size, size):
            digest = sha256(digest + text[start : start + size]).digest()[:ROOT_BYTES]
            add(digest)
        self.link_keys += [int.from_bytes(digest[:KEY_BYTES], "big") for digest in self._links[done + 1 :]]
