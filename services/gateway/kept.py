"""Follows what replicas say is in Redis, and answers how much of a prompt a replica would fetch from there.

Nothing on a request's path waits: what is known is in memory, a task of its own follows the streams. It is a hint, and
is forgotten after the life that Redis gives a block. What must not live here: the memory of it (cluster/core/prefix),
the store's keys (cluster/state/kept.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from cluster.core.lease import Lease, ReplicaId
from cluster.core.prefix import KeptPrefixes, PrefixChain
from cluster.core.routing import Fetch
from cluster.core.tier.terms import TierTerms
from services.gateway.following import follow_store

BLOCK_MS = 1000
"""The longest wait for news in one call: new fingerprints are noticed this often."""
RETRY_S = 1.0
BEGINNING = "0-0"


class KeptEntry(Protocol):
    """Chunks that somebody found in Redis."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def position(self) -> str: ...  # noqa: D102
    @property
    def written_s(self) -> float: ...  # noqa: D102
    @property
    def adds(self) -> Sequence[tuple[int, int]]: ...  # noqa: D102


class KeptSource(Protocol):
    """What following needs of the state store; cluster/state's KeptReader is one."""

    async def read(self, positions: Mapping[str, str], block_ms: int) -> Sequence[KeptEntry]:
        """Entries after these positions, by fingerprint."""
        ...


class Kept:
    """What is in Redis for whom, as far as this gateway knows."""

    def __init__(
        self,
        source: KeptSource | None,
        leases: Callable[[], Mapping[ReplicaId, Lease]],
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._leases = leases
        self._clock = clock
        self._wall_clock = wall_clock
        self._prefixes = KeptPrefixes()
        self._positions: dict[str, str] = {}
        self._terms: dict[ReplicaId, TierTerms] = {}

    @property
    def chunks(self) -> int:
        """Chunks thought to be in Redis, of all fingerprints."""
        return len(self._prefixes)

    def fetches(
        self,
        chain: PrefixChain,
        replica_ids: Iterable[ReplicaId],
        resident: Mapping[ReplicaId, int],
        *,
        block_tokens: int,
        prompt_tokens: int | None,
    ) -> dict[ReplicaId, Fetch]:
        """Of these replicas those that would fetch some of a prompt.

        Args:
            chain: the prompt's, as these replicas make it.
            replica_ids: whom to look at.
            resident: prompt tokens that they hold already.
            block_tokens: of their caches' blocks.
            prompt_tokens: the prompt's exact length, where that is known.
        """
        if not self._terms:
            return {}
        now_s = self._clock()
        kept: dict[str, int] = {}
        found: dict[ReplicaId, Fetch] = {}
        for replica_id in replica_ids:
            terms = self._terms.get(replica_id)
            if terms is None:
                continue
            tokens = kept.get(terms.fingerprint)
            if tokens is None:
                tokens = kept[terms.fingerprint] = self._prefixes.tokens(
                    chain, terms.fingerprint, block_tokens=block_tokens, prompt_tokens=prompt_tokens, now_s=now_s
                )
            held = resident.get(replica_id, 0)
            fetched = terms.fetched(resident_tokens=held, kept_tokens=tokens) if tokens else 0
            if fetched:
                found[replica_id] = Fetch(fetched, held + terms.saved(fetched))
        return found

    async def follow(self) -> None:
        """Follow every fingerprint until cancelled."""
        source = self._source
        if source is not None:
            await follow_store(lambda: self._step(source), what="what Redis keeps", retry_s=RETRY_S)

    async def _step(self, source: KeptSource) -> None:
        self._meet()
        if not self._positions:
            await asyncio.sleep(BLOCK_MS / 1000)
            return
        lives = {terms.fingerprint: terms.life_s for terms in self._terms.values()}
        for entry in await source.read(self._positions, BLOCK_MS):
            self._positions[entry.fingerprint] = entry.position
            life_s = lives.get(entry.fingerprint, 0)
            if entry.adds and entry.written_s + life_s > self._wall_clock():
                self._prefixes.add(entry.fingerprint, entry.adds, life_s=life_s, now_s=self._clock())

    def _meet(self) -> None:
        """Take note of who fetches what now; the memory of a fingerprint goes with its last replica."""
        terms = {
            replica_id: read
            for replica_id, lease in self._leases().items()
            if lease.tier is not None and (read := TierTerms.from_dict(lease.tier)) is not None
        }
        self._terms = terms
        met = {each.fingerprint for each in terms.values()}
        for gone in self._positions.keys() - met:
            self._prefixes.forget(gone)
            del self._positions[gone]
        for new in met - self._positions.keys():
            self._positions[new] = BEGINNING
