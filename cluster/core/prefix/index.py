"""What a gateway knows of all replicas' caches, and how much of a prompt each of them holds.

What must not live here: Redis, leases, how a prompt becomes a chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import length_hint
from typing import Protocol

from cluster.core.lease import ReplicaId
from cluster.core.prefix.chain import PrefixChain
from cluster.core.prefix.estimate import predicted_tokens
from cluster.core.prefix.facts import PrefixFacts
from cluster.core.prefix.messages import ResidencyUpdate
from cluster.core.prefix.table import ResidencyTable

HASH_STEP_LINKS = 16
"""How far a chain is hashed ahead of the longest holder known so far: 16 KiB take some 15 µs and asking one table 0.2,
so that small steps cost little where much is resident, and nothing further is hashed for nothing."""


class Chunks(Protocol):
    """A table of chunks' keys: `ResidencyTable` is one."""

    def __len__(self) -> int: ...

    def get(self, key: int, /) -> int: ...  # noqa: D102

    def leading(self, keys: Sequence[int], low: int, high: int, /) -> int: ...  # noqa: D102


@dataclass(slots=True)
class _Replica:
    """What is known of one replica."""

    table: ResidencyTable
    epoch: int
    seq: int


class PrefixIndex:
    """One table for each replica, kept in step with the replica's updates."""

    __slots__ = ("_replicas",)

    def __init__(self) -> None:
        self._replicas: dict[ReplicaId, _Replica] = {}

    def __len__(self) -> int:
        """Resident chunks of all replicas."""
        return sum(len(replica.table) for replica in self._replicas.values())

    @property
    def memory_bytes(self) -> int:
        """What the tables take."""
        return sum(replica.table.memory_bytes for replica in self._replicas.values())

    def known(self, replica_id: ReplicaId) -> tuple[int, int] | None:
        """The epoch and the seq up to which the replica's changes are in; None without a table."""
        replica = self._replicas.get(replica_id)
        return None if replica is None else (replica.epoch, replica.seq)

    def snapshot(self, replica_id: ReplicaId, epoch: int, seq: int, entries: Iterable[tuple[int, int]]) -> None:
        """Replace the replica's table: it holds exactly `entries` (keys with tokens) after update `seq`."""
        table = ResidencyTable(length_hint(entries))
        table.update(entries)
        self.install(replica_id, epoch, seq, table)

    def install(self, replica_id: ReplicaId, epoch: int, seq: int, table: ResidencyTable) -> None:
        """The same with a table that is filled already, as in a thread: a million entries take half a second."""
        self._replicas[replica_id] = _Replica(table=table, epoch=epoch, seq=seq)

    def apply(self, replica_id: ReplicaId, update: ResidencyUpdate) -> bool:
        """Take in what changed; an update that is in already changes nothing.

        Returns:
            False when the update does not follow what is known (a gap, another epoch, no table): the replica's table
            is dropped, and a snapshot is needed. An update that clears the cache needs nothing before it.
        """
        replica = self._replicas.get(replica_id)
        is_same_epoch = replica is not None and replica.epoch == update.epoch
        if replica is not None and is_same_epoch and update.seq <= replica.seq:
            return True
        if update.is_cleared:
            replica = _Replica(table=ResidencyTable(len(update.adds)), epoch=update.epoch, seq=update.seq)
            self._replicas[replica_id] = replica
        elif replica is None or not is_same_epoch or update.seq != replica.seq + 1:
            self.drop(replica_id)
            return False
        discard = replica.table.discard
        for key in update.removes:
            discard(key)
        replica.table.update(update.adds)
        replica.seq = update.seq
        return True

    def drop(self, replica_id: ReplicaId) -> None:
        """Forget the replica; nothing changes when it is not known."""
        self._replicas.pop(replica_id, None)

    def resident(
        self,
        chain: PrefixChain,
        replica_ids: Iterable[ReplicaId],
        *,
        facts: PrefixFacts,
        prompt_tokens: int | None = None,
    ) -> dict[ReplicaId, int]:
        """Prompt tokens each replica is predicted to find in its cache, longest first; who finds none is absent.

        Args:
            chain: the prompt's, made by `facts`.
            replica_ids: whom to ask. Their leases must carry `facts`, or their keys would mean something else.
            facts: how they make chains.
            prompt_tokens: of the whole prompt, where that is known exactly.
        """
        if not len(chain):
            return {}
        first_key = chain.key(0)
        found: list[tuple[int, ReplicaId]] = []
        for replica_id in replica_ids:
            replica = self._replicas.get(replica_id)
            if replica is None or not replica.table.get(first_key):
                continue
            predicted = tokens_found(chain, replica.table, block_tokens=facts.block_tokens, prompt_tokens=prompt_tokens)
            if predicted:
                found.append((predicted, replica_id))
        found.sort(key=lambda pair: pair[0], reverse=True)
        return {replica_id: predicted for predicted, replica_id in found}


def tokens_found(chain: PrefixChain, table: Chunks, *, block_tokens: int, prompt_tokens: int | None) -> int:
    """Prompt tokens that an engine is predicted to find, where the table has what is there; see `predicted_tokens`."""
    chunks = _leading(chain, table)
    if not chunks:
        return 0
    tokens = table.get(chain.key(chunks - 1))
    before = table.get(chain.key(chunks - 2)) if chunks > 1 else 0
    return predicted_tokens(
        tokens=tokens, chunk_tokens=max(tokens - before, 0), block_tokens=block_tokens, prompt_tokens=prompt_tokens
    )


def _leading(chain: PrefixChain, table: Chunks) -> int:
    """How many chunks of the chain are in the table before the first that is not; a gap may be looked past.

    First whole links, then chunks of the link after them. Hashes as far as that needs: what was hashed for others is
    searched first, and only its end decides about more.
    """
    keys, most = chain.link_keys, min(len(chain), len(table))
    low, most_links = 0, min(chain.link_count, most // chain.chunks_per_link)
    while low < most_links:
        high = min(len(keys), most_links)
        if high > low and not table.get(keys[high - 1]):
            low = table.leading(keys, low, high - 1)
            break
        low = high
        chain.hash_links(low + HASH_STEP_LINKS)
    low *= chain.chunks_per_link
    high = min(low + chain.chunks_per_link - 1, most)
    while low < high:
        middle = (low + high) >> 1
        if table.get(chain.key(middle)):
            low = middle + 1
        else:
            high = middle
    return low
