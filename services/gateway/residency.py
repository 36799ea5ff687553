"""Follows what replicas say of their prefix caches, and answers how much of a prompt each of them holds.

Nothing on a request's path waits: the index is in memory, a task of its own follows the streams. A replica whose
stream has a gap, began anew, or whose lease is gone, is forgotten until its next snapshot. What must not live here:
the index (cluster/core/prefix), the store's keys (cluster/state/residency.py), chains of requests (prefix.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cluster.core.lease import Lease, ReplicaId
from cluster.core.prefix import PrefixFacts, PrefixIndex, ResidencyUpdate
from cluster.core.routing import Fetch
from services.gateway.following import follow_store
from services.gateway.kept import Kept
from services.gateway.prefix import Expected, ExpectedPrompts, Fellows, PromptPrefix

BLOCK_MS = 250
"""The longest wait for news in one call: new replicas are noticed this often."""
RETRY_S = 0.5
"""Between two tries at a store that is away, or for a snapshot that is not written yet."""


class ResidencySource(Protocol):
    """What following needs of the state store; cluster/state's ResidencyReader is one."""

    async def snapshot(self, replica_id: ReplicaId) -> tuple[int, int, Sequence[int], Sequence[int], str] | None:
        """Epoch, sequence number, keys, tokens, and where in the stream to go on; None where there is none."""
        ...

    async def read(
        self, positions: Mapping[ReplicaId, str], block_ms: int
    ) -> Sequence[tuple[ReplicaId, str, ResidencyUpdate | None]]:
        """What came after these positions, with the position after each; None: it could not be read."""
        ...


class Residency:
    """What every replica holds, as far as this gateway knows."""

    def __init__(
        self,
        source: ResidencySource | None,
        leases: Callable[[], Mapping[ReplicaId, Lease]],
        clock: Callable[[], float],
        kept: Kept | None = None,
    ) -> None:
        self._source = source
        self._leases = leases
        self._clock = clock
        self.kept = kept if kept is not None else Kept(None, leases, clock)
        """What is in Redis."""
        self._index = PrefixIndex()
        self._facts: dict[ReplicaId, PrefixFacts] = {}
        self._fellows: dict[str, tuple[Fellows, ...]] = {}
        self._positions: dict[ReplicaId, str] = {}
        self._retry_s: dict[ReplicaId, float] = {}
        self._expected = ExpectedPrompts(clock)
        self._told: frozenset[ReplicaId] = frozenset()

    @property
    def chunks(self) -> int:
        """Chunks known to be resident, of all replicas."""
        return len(self._index)

    def is_useful(self, model_id: str) -> bool:
        """Whether any replica of a model says what it holds."""
        return model_id in self._fellows

    def resident(self, prefix: PromptPrefix, model_id: str, prompt_tokens: int | None) -> Mapping[ReplicaId, int]:
        """Prompt tokens that each replica of a model is predicted to find in its cache, longest first.

        Args:
            prefix: the prompt.
            model_id: as leases name it.
            prompt_tokens: its exact length, where that is known: an engine computes at least the last token.
        """
        found: dict[ReplicaId, int] = {}
        for facts, replica_ids in self._fellows.get(model_id, ()):
            chain = prefix.chain(facts)
            if chain is None or len(chain) == 0:
                continue
            found.update(self._index.resident(chain, replica_ids, facts=facts, prompt_tokens=prompt_tokens))
            for replica_id in replica_ids:
                expected = self._expected.resident_tokens(replica_id, chain, facts.block_tokens)
                if expected > found.get(replica_id, 0):
                    found[replica_id] = expected
        if len(found) > 1:
            return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))
        return found

    def fetches(
        self, prefix: PromptPrefix, model_id: str, resident: Mapping[ReplicaId, int], prompt_tokens: int | None
    ) -> Mapping[ReplicaId, Fetch]:
        """What replicas of a model would take from Redis of a prompt, beyond what is `resident` there."""
        found: dict[ReplicaId, Fetch] = {}
        for facts, replica_ids in self._fellows.get(model_id, ()) if self.kept.chunks else ():
            chain = prefix.chain(facts)
            if chain is not None and len(chain):
                found.update(
                    self.kept.fetches(
                        chain, replica_ids, resident, block_tokens=facts.block_tokens, prompt_tokens=prompt_tokens
                    )
                )
        return found

    def sent(self, prefix: PromptPrefix, replica_id: ReplicaId, prompt_tokens: int) -> Expected | None:
        """A prompt goes to a replica: what is sent there next will find it; None where nothing is known of it."""
        facts = self._facts.get(replica_id)
        chain = None if facts is None else prefix.chain(facts)
        return None if chain is None else self._expected.add(replica_id, chain, prompt_tokens, prefix.size_bytes)

    async def follow(self) -> None:
        """Follow every replica until cancelled."""
        source = self._source
        if source is not None:
            await follow_store(lambda: self._step(source), what="prefix residency", retry_s=RETRY_S)

    async def _step(self, source: ResidencySource) -> None:
        self._meet()
        now_s = self._clock()
        for replica_id in self._facts.keys() - self._positions.keys():
            if self._retry_s.get(replica_id, 0.0) <= now_s:
                await self._catch_up(source, replica_id)
        if not self._positions:
            await asyncio.sleep(BLOCK_MS / 1000)
            return
        for replica_id, position, update in await source.read(self._positions, BLOCK_MS):
            if replica_id not in self._positions:
                continue
            self._positions[replica_id] = position
            if update is None or not self._index.apply(replica_id, update):
                self._index.drop(replica_id)
                del self._positions[replica_id]

    async def _catch_up(self, source: ResidencySource, replica_id: ReplicaId) -> None:
        found = await source.snapshot(replica_id)
        if found is None:
            self._retry_s[replica_id] = self._clock() + RETRY_S
            return
        epoch, seq, keys, tokens, position = found
        self._index.snapshot(replica_id, epoch, seq, zip(keys, tokens, strict=True))
        self._positions[replica_id] = position
        self._retry_s.pop(replica_id, None)

    def _meet(self) -> None:
        """Take note of who came and who went."""
        leases = self._leases()
        told = frozenset(replica_id for replica_id, lease in leases.items() if lease.prefix is not None)
        if told == self._told:
            return
        self._told = told
        for gone in self._facts.keys() - told:
            self._index.drop(gone)
            self._positions.pop(gone, None)
            self._retry_s.pop(gone, None)
        facts: dict[ReplicaId, PrefixFacts] = {}
        for replica_id in told:
            known = self._facts.get(replica_id) or PrefixFacts.from_dict(leases[replica_id].prefix)
            if known is not None:
                facts[replica_id] = known
        self._facts = facts
        groups: dict[str, dict[str, list[ReplicaId]]] = {}
        for replica_id, known in facts.items():
            groups.setdefault(leases[replica_id].model, {}).setdefault(repr(known), []).append(replica_id)
        self._fellows = {
            model: tuple(Fellows(facts[ids[0]], tuple(ids)) for ids in alike.values())
            for model, alike in groups.items()
        }
