"""Sessions on the ring: agreed without talking, moved as little as possible."""

from __future__ import annotations

import random
import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.lease import ReplicaId
from cluster.core.routing.ring import POINTS_PER_ENDPOINT, Ring, session_hash

IDS = st.lists(st.text(min_size=1, max_size=8).map(ReplicaId), unique=True, max_size=12)


def ring_of(ids: list[ReplicaId]) -> Ring:
    ring = Ring()
    for replica_id in ids:
        ring.add(replica_id)
    return ring


@given(ids=IDS, session=st.integers(0, 2**64 - 1), seed=st.integers())
def test_gateways_agree_whatever_the_order_of_arrival(ids: list[ReplicaId], session: int, seed: int) -> None:
    shuffled = [*ids, *ids]
    random.Random(seed).shuffle(shuffled)
    gone = ReplicaId("somebody else")
    other = ring_of([gone, *shuffled])
    other.discard(gone)
    other.discard(gone)
    assert list(other.walk(session)) == list(ring_of(ids).walk(session))


@given(ids=IDS.filter(bool), sessions=st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_only_the_sessions_of_who_leaves_move(ids: list[ReplicaId], sessions: list[int]) -> None:
    ring = ring_of(ids)
    homes = {session: next(ring.walk(session)) for session in sessions}
    ring.discard(ids[0])
    for session, home in homes.items():
        if home != ids[0]:
            assert next(ring.walk(session)) == home


def test_everybody_gets_a_share() -> None:
    ids = [ReplicaId(f"replica-{number}") for number in range(10)]
    ring = ring_of(ids)
    shares = Counter(next(ring.walk(session_hash("tenant", str(number)))) for number in range(10_000))
    assert set(shares) == set(ids)
    assert max(shares.values()) < 2_000
    assert min(shares.values()) > 300


def test_a_walk_is_bounded_and_an_empty_ring_leads_nowhere() -> None:
    assert list(Ring().walk(1)) == []
    assert len(list(ring_of([ReplicaId("a")]).walk(2**64 - 1))) == POINTS_PER_ENDPOINT


def test_a_session_hash_is_the_same_everywhere_and_keeps_its_parts_apart() -> None:
    assert session_hash("a", "b") == session_hash("a", "b")
    assert session_hash("ab", "c") != session_hash("a", "bc")
    assert 0 <= session_hash("\ud800") < 2**64


def test_many_at_once_are_the_same_ring_in_less_time() -> None:
    """A reload that divides a pool makes rings of all its replicas while requests wait."""
    ids = [ReplicaId(f"replica-{number}") for number in range(4_000)]
    filled, grown = Ring(), Ring()
    began_s = time.process_time()
    filled.fill(ids)
    filled_s = time.process_time() - began_s
    for replica_id in ids:
        grown.add(replica_id)
    grown_s = time.process_time() - began_s - filled_s
    for number in range(50):
        session = session_hash("t", str(number))
        assert list(filled.walk(session)) == list(grown.walk(session))
    filled.fill(ids[:2])
    filled.discard(ids[0])
    assert ids[0] not in filled
    assert ids[0] not in set(filled.walk(session_hash("x")))
    assert filled_s < grown_s / 2
