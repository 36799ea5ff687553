"""What replicas hold of a request's prompt: the prompt's text, its chains, and what is on its way.

The text is what the model's template makes of the request, so that neither key order nor escapes nor the place of
`tools` in the JSON matter. What must not live here: the index itself (cluster/core/prefix), following the store
(residency.py), choosing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, chain_root

LEAST_TOKENS = 256
"""Prompts expected to be shorter are not looked up: two blocks of a GPU's cache cost less than rendering a template."""
LINGER_S = 0.1
"""How long a prompt counts as expected after its first token: the replica's own word comes within some milliseconds,
and only its word tells when blocks are evicted again."""
EXPECTED_BYTES_MAX = 64 * 2**20
"""Texts of prompts expected anywhere; beyond it the oldest are forgotten, which only makes predictions lower."""


class PromptPrefix:
    """One request's prompt, as chains see it."""

    __slots__ = ("_adapter", "_chains", "_salt", "_text")

    def __init__(self, text: bytes, *, salt: str | None, adapter: str | None) -> None:
        """Take a rendered prompt in UTF-8; the salt and adapter of whoever asks keep it apart from all others."""
        self._text = text
        self._salt = salt or ""
        self._adapter = adapter
        self._chains: dict[tuple[bytes, int], PrefixChain] = {}

    @property
    def size_bytes(self) -> int:
        """Of the prompt's text."""
        return len(self._text)

    def chain(self, facts: PrefixFacts) -> PrefixChain | None:
        """The chain for replicas with these facts; None where they know nothing of the adapter."""
        adapter_digest = "" if self._adapter is None else facts.adapters.get(self._adapter)
        if adapter_digest is None:
            return None
        root = chain_root(model_digest=facts.model_digest, adapter_digest=adapter_digest, salt=self._salt)
        key = (root, facts.chunk_bytes)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = PrefixChain(root, self._text, facts.chunk_bytes)
        return chain


class Fellows(NamedTuple):
    """Replicas of one model that cache alike."""

    facts: PrefixFacts
    replica_ids: tuple[ReplicaId, ...]


@dataclass(slots=True, eq=False)
class Expected:
    """A prompt that was sent to a replica, which will hold it before anything sent later is scheduled there."""

    replica_id: ReplicaId
    chain: PrefixChain
    tokens_per_chunk: float
    size_bytes: int
    until_s: float = float("inf")

    def settled(self, now_s: float) -> None:
        """Its first token is here: from now on the replica speaks for itself."""
        self.until_s = now_s + LINGER_S

    def failed(self) -> None:
        """It was not taken."""
        self.until_s = 0.0


class ExpectedPrompts:
    """Prompts on their way to being resident, by replica and first chunk."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_first: dict[tuple[ReplicaId, int], list[Expected]] = {}
        self._oldest: deque[Expected] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._oldest)

    def add(self, replica_id: ReplicaId, chain: PrefixChain, prompt_tokens: int, size_bytes: int) -> Expected | None:
        """A prompt goes to this replica; None where it is too short to matter."""
        if len(chain) == 0:
            return None
        expected = Expected(replica_id, chain, prompt_tokens / len(chain), size_bytes)
        self._by_first.setdefault((replica_id, chain.key(0)), []).append(expected)
        self._oldest.append(expected)
        self._size_bytes += size_bytes
        now_s = self._clock()
        while self._size_bytes > EXPECTED_BYTES_MAX or self._oldest[0].until_s <= now_s:
            self._forget(self._oldest.popleft())
            if not self._oldest:
                break
        return expected

    def resident_tokens(self, replica_id: ReplicaId, chain: PrefixChain, block_tokens: int) -> int:
        """Tokens of `chain` that this replica will hold because of what was sent there, in whole blocks."""
        found = self._by_first.get((replica_id, chain.key(0))) if self._by_first and len(chain) else None
        if not found:
            return 0
        now_s = self._clock()
        tokens = [
            _shared(expected.chain, chain) * expected.tokens_per_chunk for expected in found if expected.until_s > now_s
        ]
        return int(max(tokens, default=0.0) // block_tokens) * block_tokens

    def _forget(self, expected: Expected) -> None:
        key = (expected.replica_id, expected.chain.key(0))
        alike = self._by_first[key]
        alike.remove(expected)
        if not alike:
            del self._by_first[key]
        self._size_bytes -= expected.size_bytes


def _shared(one: PrefixChain, other: PrefixChain) -> int:
    """Chunks that two chains share: keys are chained, so where one is equal all before it are."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one.key(middle) == other.key(middle):
            low = middle + 1
        else:
            high = middle
    return low


def prefix_of(text: str | None, *, salt: str | None, adapter: str | None) -> PromptPrefix | None:
    """Of a prompt's text; None where it is not known."""
    return None if text is None else PromptPrefix(text.encode("utf-8", "replace"), salt=salt, adapter=adapter)
