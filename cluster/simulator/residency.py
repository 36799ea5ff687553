"""What the simulated gateway knows of replicas' caches: the core's prefix index, fed by simulated replicas.

The trace's blocks stand for chunks of text: their chained keys go where production's hashes go. What is written anew is
what services/gateway/prefix.py knows besides: prompts that were sent and will be resident. What must not live here:
routing, what a replica caches (kv.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import NamedTuple

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, PrefixIndex, ResidencyUpdate, predicted_tokens
from cluster.core.routing import NOTHING_RESIDENT
from cluster.simulator.holders import DEPTH, Holders
from cluster.simulator.router import Report

LINGER_S = 0.5
"""How long a prompt counts as expected after its first token. Longer than production's 0.1 s, since here a replica's
word comes with its next report (`LEASE_RENEW_S`) and not within milliseconds."""
EXPECTED_LOOKS_MAX = 64
"""Expected prompts with the same beginning that are compared, the latest first: those are not resident yet."""
ASKED_MAX = 32
"""Replicas with a prompt's first block that the index is asked about one by one, 2 µs each. Where more hold it, as they
do a system prompt, it is asked about those that hold more than the opening; the others are read off (`Holders`)."""


class BlockChain(PrefixChain):
    """A prompt's keys, as the index reads chains; nothing is left to hash."""

    __slots__ = ("_blocks",)

    def __init__(self, keys: Sequence[int]) -> None:
        """Take keys that are chained already."""
        self._blocks = keys
        self.link_keys = list(keys)
        self.chunks_per_link = 1

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def link_count(self) -> int:
        """As many as keys."""
        return len(self._blocks)

    def key(self, place: int) -> int:
        """The key of one block."""
        return self._blocks[place]

    def hash_links(self, _: int) -> None:
        """Nothing: every key is there."""


class _Expected(NamedTuple):
    replica_id: ReplicaId
    keys: Sequence[int]
    until_s: float


class Residency:
    """Who holds what, as far as reports and what was sent tell."""

    def __init__(self, block_tokens: int) -> None:
        """Nothing is known yet.

        Args:
            block_tokens: of the trace.
        """
        self._facts = PrefixFacts(model_digest="", chunk_bytes=1, block_tokens=block_tokens, adapters={})
        self._index = PrefixIndex()
        self._holders = Holders(block_tokens)
        self._expected: dict[int, dict[int, _Expected]] = {}
        """By the second block, since the first is often everybody's; then by request. Shorter prompts are left out."""

    def joined(self, replica_id: ReplicaId) -> None:
        """A replica with an empty cache."""
        self._index.apply(replica_id, ResidencyUpdate(epoch=0, seq=0, is_cleared=True))
        self._holders.joined(replica_id)

    def left(self, replica_id: ReplicaId) -> None:
        """Nothing goes there any more."""
        self._index.drop(replica_id)
        self._holders.left(replica_id)

    def reported(self, replica_id: ReplicaId, report: Report) -> None:
        """What came and went there since its last report."""
        known = self._index.known(replica_id)
        if known is None:
            return
        epoch, seq = known
        update = ResidencyUpdate(epoch=epoch, seq=seq + 1, adds=report.adds, removes=report.removes)
        self._index.apply(replica_id, update)
        self._holders.update(replica_id, report.adds, report.removes)

    def resident(self, chain: BlockChain, prompt_tokens: int | None, now_s: float) -> Mapping[ReplicaId, int]:
        """Prompt tokens that each replica is predicted to find, longest first; who finds none is absent."""
        found = self.held(chain, prompt_tokens)
        expected = self._expected.get(chain.key(1)) if len(chain) > 1 else None
        if not expected:
            return found
        keys, block_tokens = chain.link_keys, self._facts.block_tokens
        more: dict[ReplicaId, int] = {}
        for one in list(expected.values())[-EXPECTED_LOOKS_MAX:]:
            if one.until_s > now_s:
                tokens = _shared(keys, one.keys) * block_tokens
                if tokens > max(found.get(one.replica_id, 0), more.get(one.replica_id, 0)):
                    more[one.replica_id] = tokens
        if not more:
            return found
        return dict(sorted({**found, **more}.items(), key=itemgetter(1), reverse=True))

    def sent(self, number: int, chain: BlockChain, replica_id: ReplicaId) -> None:
        """A prompt goes to a replica: what is sent there next will find it."""
        if len(chain) > 1:
            self._expected.setdefault(chain.key(1), {})[number] = _Expected(replica_id, chain.link_keys, inf)

    def settled(self, number: int, chain: BlockChain, now_s: float) -> None:
        """Its first token is here: soon the replica speaks for itself."""
        if len(chain) > 1:
            alike = self._expected[chain.key(1)]
            alike[number] = alike[number]._replace(until_s=now_s + LINGER_S)

    def forget(self, number: int, chain: BlockChain) -> None:
        """The request has ended, or was not taken."""
        if len(chain) > 1:
            alike = self._expected.get(chain.key(1), {})
            alike.pop(number, None)
            if not alike:
                self._expected.pop(chain.key(1), None)

    def held(self, chain: BlockChain, prompt_tokens: int | None) -> Mapping[ReplicaId, int]:
        """The same without what is expected: what `PrefixIndex.resident` says of all replicas."""
        holders = self._holders.of(chain.key(0))
        if not holders:
            return NOTHING_RESIDENT
        if len(holders) <= ASKED_MAX:
            return self._index.resident(chain, holders, facts=self._facts, prompt_tokens=prompt_tokens)
        levels = self._holders.levels(chain.link_keys)
        found: dict[ReplicaId, int] = {}
        if len(levels) == DEPTH:
            found = self._index.resident(chain, levels.pop(), facts=self._facts, prompt_tokens=prompt_tokens)
        for depth in range(len(levels), 0, -1):
            if len(levels[depth - 1]) > len(found) and (tokens := self._tokens(depth, prompt_tokens)):
                # Who is found already holds more, and keeps both its place and its tokens.
                found = {**found, **dict.fromkeys(levels[depth - 1], tokens), **found}
        return found

    def _tokens(self, blocks: int, prompt_tokens: int | None) -> int:
        size = self._facts.block_tokens
        return predicted_tokens(tokens=blocks * size, chunk_tokens=size, block_tokens=size, prompt_tokens=prompt_tokens)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading keys are equal; they are chained, so a binary search finds it."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low
