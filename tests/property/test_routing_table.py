"""The endpoint table after any history equals what a naive count says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.routing import Endpoint, EndpointTable
from cluster.core.routing.index import FULL_SHELF, load_shelf

IDS = st.sampled_from([ReplicaId(f"r{number}") for number in range(4)])
POOLS = st.sampled_from([PoolName("a"), PoolName("b")])
TOKENS = st.integers(1, 1_000)


@dataclass(slots=True)
class Known:
    """What the naive count remembers of one endpoint."""

    endpoint: Endpoint
    own_at: int
    prefill_at: int
    is_suspect: bool = False
    is_open: bool = False
    refused: tuple[int, int] | None = None
    """Since its report: its load then, and our own in it."""


class TableMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.table = EndpointTable()
        self.known: dict[ReplicaId, Known] = {}
        self.requests: list[tuple[ReplicaId, int, bool]] = []
        self.reports = 0

    def own(self, replica_id: ReplicaId) -> tuple[int, int]:
        mine = [request for request in self.requests if request[0] == replica_id]
        return len(mine), sum(tokens for _, tokens, is_read in mine if not is_read)

    @rule(
        replica_id=IDS,
        pool=POOLS,
        accepts=st.booleans(),
        running=st.integers(0, 3),
        waiting=st.integers(0, 1),
        capacity=st.integers(0, 4),
        queue_limit=st.integers(0, 2),
        prefill=st.integers(0, 1_000),
    )
    def put(
        self,
        *,
        replica_id: ReplicaId,
        pool: PoolName,
        accepts: bool,
        running: int,
        waiting: int,
        capacity: int,
        queue_limit: int,
        prefill: int,
    ) -> None:
        self.reports += 1
        endpoint = Endpoint(
            replica_id=replica_id,
            pool=pool,
            url="",
            accepts=accepts,
            running=running,
            waiting=waiting,
            capacity=capacity,
            queue_limit=queue_limit,
            prefill_tokens=prefill,
            report=self.reports,
        )
        self.table.put(endpoint)
        before = self.known.get(replica_id)
        stays = before is not None and before.endpoint.pool == pool
        count, tokens = self.own(replica_id)
        self.known[replica_id] = (
            replace(before, endpoint=endpoint, own_at=count, prefill_at=tokens, refused=None)
            if before is not None and stays
            else Known(endpoint, count, tokens)
        )

    @rule(replica_id=IDS)
    def put_the_same_again(self, replica_id: ReplicaId) -> None:
        if replica_id in self.known:
            self.table.put(replace(self.known[replica_id].endpoint))

    @rule(replica_id=IDS)
    def remove(self, replica_id: ReplicaId) -> None:
        self.table.remove(replica_id)
        self.known.pop(replica_id, None)

    @rule(replica_id=IDS, tokens=TOKENS)
    def start(self, replica_id: ReplicaId, tokens: int) -> None:
        self.table.started(replica_id, tokens)
        self.requests.append((replica_id, tokens, False))

    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        unread = [place for place, request in enumerate(self.requests) if not request[2]]
        if unread:
            place = data.draw(st.sampled_from(unread))
            replica_id, tokens, _ = self.requests[place]
            self.table.first_token(replica_id, tokens)
            self.requests[place] = (replica_id, tokens, True)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.requests:
            place = data.draw(st.integers(0, len(self.requests) - 1))
            replica_id, tokens, is_read = self.requests.pop(place)
            if is_read:
                self.table.finished(replica_id)
            else:
                self.table.finished(replica_id, tokens)

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        unread = [place for place, request in enumerate(self.requests) if not request[2]]
        if unread:
            replica_id, tokens, _ = self.requests[data.draw(st.sampled_from(unread))]
            self.table.refused(replica_id)
            self.requests.remove((replica_id, tokens, False))
            self.table.finished(replica_id, tokens)
            if replica_id in self.known:
                endpoint, (others, _) = self.known[replica_id].endpoint, self.own(replica_id)
                self.known[replica_id].refused = max(endpoint.capacity + endpoint.queue_limit, others), others
                member = self.table.get(replica_id)
                assert member is not None
                assert endpoint.capacity == 0 or not member.has_room

    @rule(replica_id=IDS)
    def believe_again(self, replica_id: ReplicaId) -> None:
        self.table.believe_again(replica_id)
        if replica_id in self.known:
            self.known[replica_id].refused = None

    @rule(replica_id=IDS, is_suspect=st.booleans())
    def suspect(self, replica_id: ReplicaId, is_suspect: bool) -> None:
        self.table.set_suspect(replica_id, is_suspect=is_suspect)
        if replica_id in self.known:
            self.known[replica_id].is_suspect = is_suspect

    @rule(replica_id=IDS, is_open=st.booleans())
    def breaker(self, replica_id: ReplicaId, is_open: bool) -> None:
        self.table.set_breaker(replica_id, is_open=is_open)
        if replica_id in self.known:
            self.known[replica_id].is_open = is_open

    @invariant()
    def counts_agree(self) -> None:
        assert set(self.table.replica_ids()) == self.known.keys()
        for replica_id, known in self.known.items():
            member = self.table.get(replica_id)
            assert member is not None
            count, tokens = self.own(replica_id)
            endpoint = known.endpoint
            told, own_then = known.refused or (endpoint.running + endpoint.waiting, known.own_at)
            assert member.load == max(count, told + count - own_then)
            assert member.prefill_tokens == max(tokens, endpoint.prefill_tokens + tokens - known.prefill_at)

    @invariant()
    def pools_agree(self) -> None:
        members = Counter(known.endpoint.pool for known in self.known.values())
        assert set(self.table.pools()) == set(members)
        for pool, count in members.items():
            index = self.table.pool(pool)
            assert index is not None
            mine = {name: known for name, known in self.known.items() if known.endpoint.pool == pool}
            assert {member.endpoint.replica_id for member in index.members} == mine.keys()
            assert all(index.members[member.place] is member for member in index.members)
            usable = {name for name, known in mine.items() if known.endpoint.accepts and not known.is_open}
            suspects = {name for name in usable if mine[name].is_suspect}
            healthy = usable - suspects
            rng = random.Random(1)
            found = index.least_loaded(count, rng)
            assert len(found) == len(healthy) == index.healthy_count
            assert {member.endpoint.replica_id for member in found} == healthy
            shelves = [load_shelf(member.load, member.endpoint.capacity) for member in found]
            assert shelves == sorted(shelves)
            assert index.has_room == any(member.has_room for member in found)
            assert {member.endpoint.replica_id for member in index.suspects(count, rng)} == suspects
            assert {member.endpoint.replica_id for member in index.aside()} == mine.keys() - usable
            assert index.accepts == bool(usable)
            for name, known in mine.items():
                assert (name in index.ring) == known.endpoint.accepts

    @invariant()
    def nothing_is_kept_for_nobody(self) -> None:
        busy = {replica_id for replica_id, _, _ in self.requests}
        assert self.table._own.keys() <= self.known.keys() | busy


TestTable = TableMachine.TestCase


def test_a_shelf_tells_room_exactly() -> None:
    for capacity in range(300):
        for load in range(2 * capacity + 40):
            has_room = capacity == 0 or load < capacity
            assert (load_shelf(load, capacity) < FULL_SHELF) == has_room
            assert load_shelf(load, capacity) <= load_shelf(load + 1, capacity)
