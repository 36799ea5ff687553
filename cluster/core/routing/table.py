"""Every endpoint this gateway knows, kept ready for decisions by small updates.

It has state but does no I/O and knows no time: whoever reads leases, probes endpoints and sends requests tells it.
What must not live here: how long an endpoint stays suspect, breakers' rules (breaker.py), choosing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, KeysView, Mapping
from types import MappingProxyType

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.routing.endpoint import Endpoint, Member, OwnWork
from cluster.core.routing.index import PoolIndex

NO_LANES: Mapping[str, PoolIndex] = MappingProxyType({})


class EndpointTable:
    """The members of every pool, with their load as of now.

    A pool is one index, or one for each revision where requests are divided among those (`split`).

    Updates of endpoints that are not in the table are ignored, except that `started`, `first_token` and `finished`
    still count: a replica whose lease lapses and returns keeps what it was sent.
    """

    __slots__ = ("_lanes", "_members", "_own", "_pools")

    def __init__(self) -> None:
        self._members: dict[ReplicaId, Member] = {}
        self._pools: dict[PoolName, PoolIndex] = {}
        self._lanes: dict[PoolName, dict[str, PoolIndex]] = {}
        """Of pools that are split, which `_pools` does not have."""
        self._own: dict[ReplicaId, OwnWork] = {}

    def __len__(self) -> int:
        return len(self._members)

    def put(self, endpoint: Endpoint) -> None:
        """Take over what an endpoint reports now; the same report told again changes nothing."""
        replica_id = endpoint.replica_id
        member = self._members.get(replica_id)
        if member is not None and not _are_alike(member.endpoint, endpoint):
            self.remove(replica_id)
            member = None
        if member is None:
            member = Member(endpoint, self._own.setdefault(replica_id, OwnWork()))
            self._members[replica_id] = member
            self._index_for(endpoint).add(member)
        elif member.endpoint != endpoint:
            member.report(endpoint)
            member.index.reported(member)

    def remove(self, replica_id: ReplicaId) -> None:
        """Forget an endpoint and its marks; what this gateway has there is remembered until it ends."""
        member = self._members.pop(replica_id, None)
        if member is None:
            return
        member.index.remove(member)
        if not member.index.members:
            lanes = self._lanes.get(member.endpoint.pool)
            if lanes is None:
                del self._pools[member.endpoint.pool]
            else:
                del lanes[member.endpoint.revision]
        self._forget(replica_id, member.own)

    def started(self, replica_id: ReplicaId, prefill_tokens: int) -> None:
        """A request goes there: it is load at once, long before a report tells of it.

        Args:
            replica_id: who gets it.
            prefill_tokens: prompt tokens that are not resident there.
        """
        own = self._own.get(replica_id)
        if own is None:
            own = self._own[replica_id] = OwnWork()
        own.in_flight += 1
        own.prefill_tokens += prefill_tokens
        self._recount(replica_id)

    def first_token(self, replica_id: ReplicaId, prefill_tokens: int) -> None:
        """A request's prompt is computed; `prefill_tokens` as `started` told."""
        own = self._own.get(replica_id)
        if own is None:
            return
        own.prefill_tokens = max(own.prefill_tokens - prefill_tokens, 0)
        member = self._members.get(replica_id)
        if member is not None:
            member.recount()  # its load stays, and so does its place

    def finished(self, replica_id: ReplicaId, prefill_tokens: int = 0) -> None:
        """A request ended; `prefill_tokens` as `started` told where `first_token` was not called, else 0."""
        own = self._own.get(replica_id)
        if own is None:
            return
        own.in_flight = max(own.in_flight - 1, 0)
        own.prefill_tokens = max(own.prefill_tokens - prefill_tokens, 0)
        self._recount(replica_id)
        if own.in_flight == 0:
            self._forget(replica_id, own)

    def refused(self, replica_id: ReplicaId) -> None:
        """It refused a request as full, and counts as full until its next report; told before that one is `finished`.

        Of ours that end there meanwhile, each makes room for one, once it is back at what it runs and lets wait.
        """
        member = self._members.get(replica_id)
        if member is not None:
            member.refused()
            member.index.moved(member)

    def believe_again(self, replica_id: ReplicaId) -> None:
        """There was no new report for so long that its last one says more than a refusal since."""
        member = self._members.get(replica_id)
        if member is not None:
            member.believed_again()
            member.index.moved(member)

    def set_suspect(self, replica_id: ReplicaId, *, is_suspect: bool) -> None:
        """Mark an endpoint that failed a moment ago, or whose probe fails: the last resort."""
        member = self._members.get(replica_id)
        if member is not None:
            member.is_suspect = is_suspect
            member.index.moved(member)

    def set_breaker(self, replica_id: ReplicaId, *, is_open: bool) -> None:
        """Tell whether an endpoint's breaker keeps requests away from it."""
        member = self._members.get(replica_id)
        if member is not None:
            member.is_breaker_open = is_open
            member.index.moved(member)

    def get(self, replica_id: ReplicaId) -> Member | None:
        """One endpoint's live row, to read."""
        return self._members.get(replica_id)

    def pool(self, name: PoolName) -> PoolIndex | None:
        """The members of one pool; None where it has none, or is split."""
        return self._pools.get(name)

    def lanes(self, name: PoolName) -> Mapping[str, PoolIndex]:
        """The members of a pool that is split, by revision; empty where it has none, or is not split."""
        return self._lanes.get(name, NO_LANES)

    def indexes(self, name: PoolName) -> Collection[PoolIndex]:
        """The members of one pool, split or not."""
        index = self._pools.get(name)
        return self.lanes(name).values() if index is None else (index,)

    def split(self, pools: Iterable[PoolName]) -> None:
        """Keep the revisions of these pools apart, and those of no other; what is known of members stays.

        It takes 40 µs for each member of a pool that changes sides, in one go: a reload that gives a pool of 1,000
        replicas weights, or takes them away, holds the event loop for that long.
        """
        wanted = set(pools)
        for name in self._lanes.keys() ^ wanted:
            members = [member for index in self.indexes(name) for member in index.members]
            self._pools.pop(name, None)
            self._lanes.pop(name, None)
            if name in wanted:
                self._lanes[name] = {}
            joining: dict[PoolIndex, list[Member]] = {}
            for member in members:
                joining.setdefault(self._index_for(member.endpoint), []).append(member)
            for index, those in joining.items():
                index.fill(those)

    def pools(self) -> Collection[PoolName]:
        """The pools that have members."""
        return (*self._pools, *(name for name, lanes in self._lanes.items() if lanes))

    def members(self) -> Iterable[Member]:
        """Everybody, for metrics; decisions never walk it."""
        return self._members.values()

    def replica_ids(self) -> KeysView[ReplicaId]:
        """Everybody's id."""
        return self._members.keys()

    def _index_for(self, endpoint: Endpoint) -> PoolIndex:
        lanes = self._lanes.get(endpoint.pool)
        if lanes is None:
            return self._pools.setdefault(endpoint.pool, PoolIndex())
        return lanes.setdefault(endpoint.revision, PoolIndex())

    def _recount(self, replica_id: ReplicaId) -> None:
        member = self._members.get(replica_id)
        if member is not None:
            member.recount()
            member.index.moved(member)

    def _forget(self, replica_id: ReplicaId, own: OwnWork) -> None:
        if own.in_flight == 0 and replica_id not in self._members:
            self._own.pop(replica_id, None)


def _are_alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether both are kept in the same place, whatever else they report."""
    return one.pool == other.pool and one.revision == other.revision
