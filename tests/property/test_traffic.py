"""Canaries: long-run shares, sessions that stay, and revisions that get nothing."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    Decision,
    Endpoint,
    EndpointTable,
    FilterName,
    NoEndpoint,
    Pool,
    Query,
    Saturated,
    explain,
    profile_of,
    route,
    session_hash,
    shares_of,
)
from cluster.core.routing.candidates import CANDIDATES_MAX
from cluster.core.routing.traffic import in_order

NEED = ContextNeed(prompt_tokens=10, output_tokens=10, is_explicit=True)
P = PoolName("p")
NAMES = "abcd"
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5), min_size=1).filter(lambda w: any(w.values()))
SESSIONS = st.integers(0, 2**64 - 1)


def pool(traffic: dict[str, float], name: PoolName = P, context_tokens: int = 100) -> Pool:
    return Pool(name=name, model="m", context_tokens=context_tokens, shares=shares_of(traffic))


def endpoint(name: str, revision: str, **changes: object) -> Endpoint:
    values: dict[str, object] = {"pool": P, "url": "http://x", "accepts": True, "capacity": 4}
    return Endpoint(replica_id=ReplicaId(name), revision=revision, **(values | changes))  # type: ignore[arg-type]


def table_of(*endpoints: Endpoint, is_split: bool = True) -> EndpointTable:
    table = EndpointTable()
    table.split([P] if is_split else [])
    for one in endpoints:
        table.put(one)
    return table


ENDPOINTS = st.lists(
    st.builds(
        endpoint,
        name=st.integers(0, 49).map(str),
        revision=st.sampled_from(NAMES + "e"),
        accepts=st.booleans(),
        running=st.integers(0, 6),
        capacity=st.integers(0, 4),
    ),
    max_size=50,
    unique_by=lambda one: one.replica_id,
)
IDS = st.frozensets(st.integers(0, 49).map(str).map(ReplicaId), max_size=5)


def marked(endpoints: list[Endpoint], suspects: frozenset[ReplicaId], broken: frozenset[ReplicaId]) -> EndpointTable:
    table = table_of(*endpoints)
    for replica_id in suspects:
        table.set_suspect(replica_id, is_suspect=True)
    for replica_id in broken:
        table.set_breaker(replica_id, is_open=True)
    return table


@given(
    endpoints=ENDPOINTS, weights=WEIGHTS, suspects=IDS, broken=IDS, tried=IDS, session=st.none() | SESSIONS,
    seed=st.integers(0, 9), explains=st.booleans(),
)  # fmt: skip
def test_without_a_share_nobody_serves_while_another_accepts(
    endpoints: list[Endpoint],
    weights: dict[str, float],
    suspects: frozenset[ReplicaId],
    broken: frozenset[ReplicaId],
    *,
    tried: frozenset[ReplicaId],
    session: int | None,
    seed: int,
    explains: bool,
) -> None:
    table = marked(endpoints, suspects, broken)
    query = Query(need=NEED, session=session, tried=tried, explains=explains)
    found = route(query, [pool(weights)], table, profile_of("balanced"), random.Random(seed))
    usable = [one for one in endpoints if one.accepts and one.replica_id not in broken]
    fresh = [one for one in usable if one.replica_id not in tried]
    has_share = any(weights.get(one.revision) for one in fresh)
    has_room = any(
        weights.get(one.revision)
        and one.replica_id not in suspects
        and (one.running < one.capacity or not one.capacity)
        for one in usable
    )
    if not usable:
        assert isinstance(found, NoEndpoint)
    if not isinstance(found, Decision):
        with_room = [one for one in fresh if one.running < one.capacity or not one.capacity]
        healthy = [one for one in with_room if one.replica_id not in suspects]
        # Nobody with a share has room, nor who is not named; where none has a share, nobody at all.
        for one in healthy:
            assert has_share
            assert not weights.get(one.revision)
            assert one.revision in weights or has_room
        assert isinstance(found, Saturated | NoEndpoint)
        return
    assert len(found.choices) <= CANDIDATES_MAX
    assert len({choice.endpoint.replica_id for choice in found.choices}) == len(found.choices)
    for choice in found.choices:
        assert choice.endpoint in fresh
        assert weights.get(choice.endpoint.revision) != 0 or not has_share
        assert choice.endpoint.revision in weights or not has_share or not has_room
        assert choice.reason.isascii()
    assert explain(found)["revisions"][P]["used"] in {one.revision for one in endpoints}


@given(endpoints=ENDPOINTS, weights=WEIGHTS, session=SESSIONS, seeds=st.tuples(st.integers(), st.integers()))
def test_a_session_draws_one_revision(
    endpoints: list[Endpoint], weights: dict[str, float], session: int, seeds: tuple[int, int]
) -> None:
    table = table_of(*endpoints)
    first, second = (
        route(Query(need=NEED, session=session), [pool(weights)], table, profile_of("session"), random.Random(seed))
        for seed in seeds
    )
    if isinstance(first, Decision) and isinstance(second, Decision):
        assert first.first.endpoint.revision == second.first.endpoint.revision


@given(weights=WEIGHTS, more=st.integers(1, 5), data=st.data())
def test_a_growing_weight_only_takes_sessions_over(weights: dict[str, float], more: int, data: st.DataObject) -> None:
    grown = data.draw(st.sampled_from(sorted(weights)))
    after = {**weights, grown: weights[grown] + more}
    for number in range(50):
        session = session_hash("t", str(number))
        was = in_order(session, shares_of(weights))[0]
        becomes = in_order(session, shares_of(after))[0]
        assert becomes in {was, grown}


@given(weights=WEIGHTS, session=SESSIONS)
def test_a_revision_that_leaves_moves_its_own_sessions_alone(weights: dict[str, float], session: int) -> None:
    order = in_order(session, shares_of(weights))
    assume(len(order) > 1)
    without = {name: weight for name, weight in weights.items() if name != order[-1]}
    assert in_order(session, shares_of(without)) == order[:-1]


@pytest.mark.parametrize("has_session", [False, True])
@pytest.mark.parametrize("weights", [{"a": 90, "b": 10}, {"a": 1, "b": 1}, {"a": 0.05, "b": 0.2, "c": 0.75}])
def test_shares_approach_the_weights(weights: dict[str, float], has_session: bool) -> None:
    table = table_of(*(endpoint(f"{name}{number}", name, capacity=0) for name in "abcd" for number in range(20)))
    rng, profile, draws = random.Random(4), profile_of("balanced"), 4_000
    seen: Counter[str] = Counter()
    for number in range(draws):
        session = session_hash("tenant", str(number)) if has_session else None
        found = route(Query(need=NEED, session=session), [pool(weights)], table, profile, rng)
        assert isinstance(found, Decision)
        seen[found.first.endpoint.revision] += 1
    total = sum(weights.values())
    for name, weight in weights.items():
        share = weight / total
        deviation = (share * (1 - share) / draws) ** 0.5
        assert abs(seen[name] / draws - share) < 5 * deviation
    assert seen["d"] == 0


def test_sessions_of_a_small_revision_use_all_its_replicas() -> None:
    """The draw must not follow the ring, or the sessions of a small share would meet on one of its replicas."""
    table = table_of(*(endpoint(f"b{number}", "b", capacity=0) for number in range(4)), endpoint("a", "a", capacity=0))
    seen: Counter[str] = Counter()
    for number in range(2_000):
        query = Query(need=NEED, session=session_hash("t", str(number)))
        found = route(query, [pool({"a": 9, "b": 1})], table, profile_of("session"), random.Random(1))
        assert isinstance(found, Decision)
        seen[found.first.endpoint.replica_id] += 1
    assert min(seen[ReplicaId(f"b{number}")] for number in range(4)) > 10


def test_a_full_canary_refuses_nobody() -> None:
    table = table_of(endpoint("b", "b", running=4), endpoint("a", "a"))
    for seed in range(20):
        found = route(Query(need=NEED), [pool({"a": 1, "b": 99})], table, profile_of("balanced"), random.Random(seed))
        assert isinstance(found, Decision)
        assert found.first.endpoint.revision == "a"
    table.put(endpoint("a", "a", running=4))
    full = route(Query(need=NEED), [pool({"a": 1, "b": 99})], table, profile_of("balanced"), random.Random(1))
    assert full == Saturated(pools=(P,))


def test_a_session_stays_also_where_its_own_revision_is_full() -> None:
    table = table_of(endpoint("b", "b", running=4), *(endpoint(f"a{number}", "a", capacity=0) for number in range(5)))
    profile = profile_of("session")
    for number in range(20):
        query = Query(need=NEED, session=session_hash("t", str(number)))
        found = [route(query, [pool({"a": 1, "b": 9})], table, profile, random.Random(seed)) for seed in range(5)]
        assert len({one.first.endpoint.replica_id for one in found if isinstance(one, Decision)}) == 1


def test_a_cached_prompt_is_no_way_around_the_weights() -> None:
    """In a large pool, holders of a prefix are candidates whatever their load."""
    table = table_of(*(endpoint(f"{name}{number}", name) for name in "ab" for number in range(2 * CANDIDATES_MAX)))
    resident = {ReplicaId(f"b{number}"): 10 for number in range(5)}
    for seed in range(10):
        query = Query(need=NEED, session=seed, resident=resident)
        found = route(query, [pool({"a": 1})], table, profile_of("prefix"), random.Random(seed))
        assert isinstance(found, Decision)
        assert {choice.endpoint.revision for choice in found.choices} == {"a"}


def test_another_revisions_caches_do_not_hide_ones_own() -> None:
    """The long prompts of the old revision are on many replicas; the canary's one replica that holds it is found."""
    table = table_of(*(endpoint(f"{name}{number}", name) for name in "ab" for number in range(2 * CANDIDATES_MAX)))
    resident = {ReplicaId(f"b{number}"): 10 for number in range(20)} | {ReplicaId("a7"): 10}
    for seed in range(20):
        query = Query(need=NEED, resident=resident)
        found = route(query, [pool({"a": 1})], table, profile_of("prefix"), random.Random(seed))
        assert isinstance(found, Decision)
        assert found.first.endpoint.replica_id == "a7"


def test_a_revision_that_is_not_named_serves_once_the_named_ones_are_full() -> None:
    """An upgrade's other side: the file names v2 and the canary, and for minutes all there is besides is v1."""
    named = [endpoint("c", "canary")]
    table = table_of(*named, *(endpoint(f"v1-{number}", "v1") for number in range(10)), endpoint("off", "off"))
    traffic = [pool({"v2": 95, "canary": 5, "off": 0})]
    profile = profile_of("balanced")
    for seed in range(20):
        found = route(Query(need=NEED, explains=True), traffic, table, profile, random.Random(seed))
        assert isinstance(found, Decision)
        assert {one.endpoint.revision for one in found.choices} == {"canary"}
    table.put(endpoint("c", "canary", running=4))
    for seed in range(20):
        found = route(Query(need=NEED, explains=True), traffic, table, profile, random.Random(seed))
        assert isinstance(found, Decision)
        assert {one.endpoint.revision for one in found.choices} == {"v1"}
        assert found.first.reason.endswith("; revision v1, since canary was drawn and was busy or failed")
    for number in range(10):
        table.put(endpoint(f"v1-{number}", "v1", running=4))
    assert isinstance(route(Query(need=NEED), traffic, table, profile, random.Random(1)), Saturated)


def test_what_is_not_named_comes_before_what_is_out_of_use() -> None:
    table = table_of(endpoint("off", "off"), endpoint("v1", "v1"))
    for seed in range(20):
        found = route(Query(need=NEED), [pool({"a": 1, "off": 0})], table, profile_of("balanced"), random.Random(seed))
        assert isinstance(found, Decision)
        assert found.first.endpoint.revision == "v1"


def test_a_revision_out_of_use_waits_for_its_turn() -> None:
    table = table_of(endpoint("a", "a", running=4), endpoint("old", "old"))
    traffic = [pool({"a": 1, "old": 0})]
    query = Query(need=NEED, explains=True)
    full = route(query, traffic, table, profile_of("balanced"), random.Random(1))
    assert isinstance(full, Saturated)
    assert [(one.endpoint.replica_id, one.by) for one in full.rejected] == [
        ("a", FilterName.ROOM),
        ("old", FilterName.REVISION),
    ]
    # The only one with a share had its chance, so another one is better than none.
    found = route(query._replace(tried=frozenset({ReplicaId("a")})), traffic, table, profile_of(
        "balanced"), random.Random(1))  # fmt: skip
    assert isinstance(found, Decision)
    assert found.first.endpoint.replica_id == "old"
    table.remove(ReplicaId("a"))
    found = route(query, traffic, table, profile_of("balanced"), random.Random(1))
    assert isinstance(found, Decision)
    assert found.first.endpoint.replica_id == "old"
    assert found.first.reason.endswith("; revision old, since none with a share of the traffic accepts")


def test_words_say_which_share_it_was() -> None:
    table = table_of(endpoint("a", "a"), endpoint("b", "b"))
    found = route(Query(need=NEED), [pool({"b": 25, "a": 0})], table, profile_of("balanced"), random.Random(1))
    assert isinstance(found, Decision)
    assert found.first.reason.endswith("(limit 100); revision b by its share of 25 in 25")
    told = explain(found)
    assert told["revisions"] == {"p": {"drawn": "b", "used": "b"}}
    assert told["choices"][0]["revision"] == "b"


@given(endpoints=ENDPOINTS, seed=st.integers(0, 99))
def test_splitting_and_joining_a_pool_keeps_its_members(endpoints: list[Endpoint], seed: int) -> None:
    plain, moved = table_of(*endpoints, is_split=False), table_of(*endpoints)
    for table in (plain, moved):
        for one in endpoints[::2]:
            table.started(one.replica_id, 5)
    assert set(moved.pools()) == set(plain.pools())
    revisions = {one.revision for one in endpoints}
    assert moved.lanes(P).keys() == revisions
    for revision, lane in moved.lanes(P).items():
        assert all(lane.members[member.place] is member for member in lane.members)
        assert {member.endpoint.revision for member in lane.members} == {revision}
    moved.split([])
    assert moved.lanes(P) == {}
    # A request from before the reload still knows weights, and the table none; then everybody is as good as another.
    for traffic in ({"a": 1.0}, {}):
        found, expected = (
            route(Query(need=NEED), [pool(traffic)], table, profile_of("balanced"), random.Random(seed))
            for table in (moved, plain)
        )
        assert type(found) is type(expected)
        if isinstance(found, Decision) and isinstance(expected, Decision):
            assert {one.endpoint for one in found.choices} == {one.endpoint for one in expected.choices}


@given(endpoints=ENDPOINTS, seed=st.integers(0, 99))
def test_a_request_from_before_the_split_may_go_anywhere(endpoints: list[Endpoint], seed: int) -> None:
    plain, split = table_of(*endpoints, is_split=False), table_of(*endpoints)
    found, expected = (
        route(Query(need=NEED), [pool({})], table, profile_of("balanced"), random.Random(seed))
        for table in (split, plain)
    )
    assert type(found) is type(expected)
