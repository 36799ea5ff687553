"""What a decision is asked, and what is settled about it before any endpoint is looked at.

What must not live here: rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed
from cluster.core.routing.endpoint import Member
from cluster.core.routing.index import PoolIndex
from cluster.core.routing.pools import Pool
from cluster.core.routing.traffic import Draw

NOTHING_RESIDENT: Mapping[ReplicaId, int] = MappingProxyType({})


class Fetch(NamedTuple):
    """What an endpoint would take from Redis of a prompt, beyond what it holds."""

    tokens: int
    saved_tokens: int
    """What it holds, and as many tokens as could be computed in the time that the fetch saves: a fetch makes a cheaper
    start than computing, and a dearer one than residency."""


NO_FETCHES: Mapping[ReplicaId, Fetch] = MappingProxyType({})
NOBODY: frozenset[ReplicaId] = frozenset()


class Query(NamedTuple):
    """One request, as far as choosing an endpoint for it goes.

    A tuple, like what follows: each is made for every decision, and a frozen dataclass takes twice as long.
    """

    need: ContextNeed
    session: int | None = None
    """Its session's point on the ring (`session_hash`); None when it belongs to none."""
    adapter: str | None = None
    """The LoRA adapter it needs."""
    resident: Mapping[ReplicaId, int] = NOTHING_RESIDENT
    """Prompt tokens that endpoints hold already, longest first; absent means none."""
    fetches: Mapping[ReplicaId, Fetch] = NO_FETCHES
    """What endpoints would take from Redis; absent means nothing."""
    tried: frozenset[ReplicaId] = NOBODY
    """Endpoints that have had their chance with this request."""
    may_queue: bool = False
    """Whether it may wait inside an engine of its own pool, up to the engine's queue limit. For gateways without a
    queue of their own."""
    explains: bool = False
    """Whether rejected endpoints that would not even be looked at are to be named as well."""

    @property
    def saved(self) -> Mapping[ReplicaId, int]:
        """Prompt tokens that endpoints are spared computing, what a fetch costs taken off; absent means none."""
        if not self.fetches:
            return self.resident
        return {**self.resident, **{replica_id: fetch.saved_tokens for replica_id, fetch in self.fetches.items()}}


class HomeState(Enum):
    """How the smallest fitting pool stands."""

    FREE = "free"
    """A healthy endpoint would run the request at once."""
    SATURATED = "saturated"
    """There are healthy endpoints; a new request would wait in every one of them."""
    DEAD = "dead"
    """No endpoint accepts and is healthy."""


class Fit(NamedTuple):
    """A pool that holds the request."""

    pool: Pool
    output_tokens: int
    """The output it grants."""
    rank: int
    """0 for its home, the smallest fitting pools unless they prefer shorter requests; then by size, and those last."""

    @property
    def is_home(self) -> bool:
        """Whether the request belongs there. Pools of one limit share their work."""
        return self.rank == 0


class Split(NamedTuple):
    """What was drawn for a request where revisions share a pool."""

    draws: Mapping[PoolName, Draw]
    spares: Sequence[tuple[Fit, PoolIndex]]
    """Revisions to fall back on."""
    withheld: Sequence[PoolIndex]
    """Revisions that may not have it."""


class Case(NamedTuple):
    """A query with everything that holds for all its candidates."""

    query: Query
    pools: Collection[Pool]
    """The pools of the model."""
    fits: Mapping[PoolName, Fit]
    """Those that hold the request, in the order to try them."""
    home: HomeState
    session_homes: tuple[Member, ...]
    """Whom the session belongs to, in each of the smallest fitting pools."""
    reserve_ratio: float
    split: Split | None = None
    """None where no fitting pool divides its requests among revisions."""
