"""What replicas hold of a request's prompt: the prompt's text, its chains, and what is on its way.

The text is what the model's template makes of the request, so that neither key order nor escapes nor the place of
`tools` in the JSON matter. What must not live here: the index itself (cluster/core/prefix), following the store
(residency.py), choosing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, chain_root

LEAST_TOKENS = 256
"""Prompts expected to be shorter are not looked up: two blocks of a GPU's cache cost less than rendering a template."""
LINGER_S = 1.0
"""How long a prompt counts as expected after its first token: by then the replica's own word is here, nearly always
within some milliseconds."""
EXPECTED_MAX = 512
"""Prompts expected at one replica; beyond it the oldest are forgotten, which only makes predictions lower."""


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


@dataclass(slots=True)
class Expected:
    """A prompt that was sent to a replica, which will hold it before anything sent later is scheduled there."""

    chain: PrefixChain
    tokens_per_chunk: float
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
        self._by_replica: dict[ReplicaId, dict[int, list[Expected]]] = {}

    def add(self, replica_id: ReplicaId, chain: PrefixChain, prompt_tokens: int) -> Expected | None:
        """A prompt goes to this replica; None where it is too short to matter."""
        if len(chain) == 0:
            return None
        expected = Expected(chain, prompt_tokens / len(chain))
        rows = self._by_replica.setdefault(replica_id, {})
        if len(rows) >= EXPECTED_MAX:
            self._sweep(rows)
        rows.setdefault(chain.key(0), []).append(expected)
        return expected

    def resident_tokens(self, replica_id: ReplicaId, chain: PrefixChain, block_tokens: int) -> int:
        """Tokens of `chain` that this replica will hold because of what was sent there, in whole blocks."""
        rows = self._by_replica.get(replica_id)
        if not rows or len(chain) == 0:
            return 0
        found = rows.get(chain.key(0))
        if not found:
            return 0
        now_s = self._clock()
        alive = [expected for expected in found if expected.until_s > now_s]
        if not alive:
            del rows[chain.key(0)]
            return 0
        if len(alive) < len(found):
            rows[chain.key(0)] = alive
        tokens = max(_shared(expected.chain, chain) * expected.tokens_per_chunk for expected in alive)
        return int(tokens // block_tokens) * block_tokens

    def keep(self, replica_ids: Iterable[ReplicaId]) -> None:
        """Forget replicas that are gone."""
        for gone in self._by_replica.keys() - set(replica_ids):
            del self._by_replica[gone]

    def _sweep(self, rows: dict[int, list[Expected]]) -> None:
        now_s = self._clock()
        for key, found in list(rows.items()):
            alive = [expected for expected in found if expected.until_s > now_s]
            if alive:
                rows[key] = alive
            else:
                del rows[key]
        while len(rows) >= EXPECTED_MAX:
            del rows[next(iter(rows))]


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
