"""What each policy prefers, and what a decision says about it."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    Decision,
    Endpoint,
    EndpointTable,
    NoEndpoint,
    Policy,
    Pool,
    Profile,
    Query,
    Saturated,
    TooLong,
    explain,
    profile_of,
    route,
    session_hash,
)

A = PoolName("a")
POOL = Pool(name=A, model="m", context_tokens=100_000)
NEED = ContextNeed(prompt_tokens=10_000, output_tokens=100, is_explicit=True)
NAMES = ("one", "two", "three")


def endpoint(name: str, pool: PoolName = A, **facts: Any) -> Endpoint:
    return Endpoint(replica_id=ReplicaId(name), pool=pool, url=f"http://{name}", **{"accepts": True, **facts})


def table_of(*endpoints: Endpoint) -> EndpointTable:
    table = EndpointTable()
    for one in endpoints:
        table.put(one)
    return table


def decide(table: EndpointTable, profile: Profile, *, seed: int = 1, **query: Any) -> Decision:
    outcome = route(Query(need=NEED, **query), [POOL], table, profile, random.Random(seed))
    assert isinstance(outcome, Decision)
    return outcome


def first(table: EndpointTable, policy: Policy, **query: Any) -> str:
    return decide(table, profile_of(policy), **query).choices[0].endpoint.replica_id


def test_round_robin_takes_turns_whatever_the_load() -> None:
    table = table_of(endpoint("one", running=50), endpoint("two"), endpoint("three"))
    profile = profile_of("round-robin")
    taken = [decide(table, profile, seed=turn).choices[0].endpoint.replica_id for turn in range(30)]
    assert Counter(taken) == dict.fromkeys(NAMES, 10)
    assert all(len(set(taken[turn : turn + 3])) == 3 for turn in range(0, 30, 3))


@pytest.mark.parametrize("policy", [Policy.LEAST_WORK, Policy.PREFIX, Policy.BALANCED])
def test_less_work_is_better(policy: Policy) -> None:
    assert first(table_of(endpoint("one", running=9), endpoint("two", running=3)), policy) == "two"
    assert first(table_of(endpoint("one", prefill_tokens=5_000), endpoint("two")), policy) == "two"


def test_our_own_requests_count_at_once() -> None:
    table = table_of(endpoint("one"), endpoint("two"))
    table.started(ReplicaId("one"), 10_000)
    assert first(table, Policy.BALANCED) == "two"
    table.started(ReplicaId("two"), 10_000)
    table.first_token(ReplicaId("two"), 10_000)
    assert first(table, Policy.BALANCED) == "two"


@pytest.mark.parametrize("policy", [Policy.LEAST_WORK, Policy.PREFIX, Policy.BALANCED])
def test_a_resident_prefix_is_work_saved(policy: Policy) -> None:
    table = table_of(*map(endpoint, NAMES))
    decision = decide(table, profile_of(policy), resident={ReplicaId("two"): 8_000})
    assert decision.choices[0].endpoint.replica_id == "two"
    assert decision.choices[0].resident_tokens == 8_000
    assert decision.choices[0].prefill_tokens == 2_000


def test_the_prefix_policy_follows_the_prefix_where_balanced_turns_away() -> None:
    holder = endpoint("one", running=60, capacity=64, prefill_tokens=60_000)
    table = table_of(holder, endpoint("two", capacity=64))
    resident = {ReplicaId("one"): 9_000}
    assert first(table, Policy.PREFIX, resident=resident) == "one"
    assert first(table, Policy.BALANCED, resident=resident) == "two"


def test_a_session_stays_where_it_is_until_that_costs() -> None:
    table = table_of(*(endpoint(name, capacity=8) for name in NAMES))
    session = session_hash("tenant", "conversation")
    homes = {first(table, Policy.BALANCED, session=session, seed=seed) for seed in range(20)}
    assert len(homes) == 1
    home = homes.pop()
    for _ in range(7):
        table.started(ReplicaId(home), 10_000)
    assert first(table, Policy.BALANCED, session=session) != home
    for _ in range(7):
        table.finished(ReplicaId(home), 10_000)
    table.set_suspect(ReplicaId(home), is_suspect=True)
    assert len({first(table, Policy.BALANCED, session=session, seed=seed) for seed in range(20)}) == 1


def test_the_session_policy_stays_at_home_whatever_the_load_and_the_cache() -> None:
    table = table_of(*(endpoint(name, capacity=8) for name in NAMES))
    session = session_hash("tenant", "conversation")
    home = first(table, Policy.SESSION, session=session)
    for _ in range(7):
        table.started(ReplicaId(home), 10_000)
    elsewhere = next(name for name in NAMES if name != home)
    assert first(table, Policy.SESSION, session=session, resident={ReplicaId(elsewhere): 9_000}) == home
    assert {first(table, Policy.SESSION, seed=seed) for seed in range(20)} == set(NAMES) - {home}
    table.started(ReplicaId(home), 10_000)
    assert first(table, Policy.SESSION, session=session) != home


def test_a_loaded_adapter_is_preferred() -> None:
    table = table_of(endpoint("one"), endpoint("two", adapters=frozenset({"law"})))
    assert {first(table, Policy.BALANCED, adapter="law", seed=seed) for seed in range(20)} == {"two"}
    assert len({first(table, Policy.BALANCED, seed=seed) for seed in range(20)}) == 2


def test_pools_of_one_limit_share_their_work() -> None:
    other = Pool(name=PoolName("b"), model="m", context_tokens=POOL.context_tokens)
    table = table_of(endpoint("one", running=5), endpoint("two", pool=other.name))
    outcome = route(Query(need=NEED), [POOL, other], table, profile_of("balanced"), random.Random(1))
    assert isinstance(outcome, Decision)
    assert [choice.endpoint.replica_id for choice in outcome.choices] == ["two", "one"]
    assert "b is the smallest pool that holds them" in outcome.choices[0].reason


def test_an_unknown_policy_or_reserve_is_refused() -> None:
    with pytest.raises(ValueError, match="fastest"):
        profile_of("fastest")
    with pytest.raises(ValueError, match="reserve_ratio"):
        profile_of("balanced", reserve_ratio=1.5)


def test_an_explanation_has_scores_reasons_and_who_was_rejected() -> None:
    small = Pool(name=PoolName("small"), model="m", context_tokens=1_000)
    table = table_of(
        endpoint("one", running=1),
        endpoint("full", running=4, capacity=4),
        endpoint("leaving", accepts=False),
        endpoint("broken"),
        endpoint("little", pool=small.name),
        endpoint("foreign", pool=PoolName("else")),
        endpoint("again"),
    )
    table.set_breaker(ReplicaId("broken"), is_open=True)
    query = Query(need=NEED, tried=frozenset({ReplicaId("again")}), explains=True)
    outcome = route(query, [small, POOL], table, profile_of("balanced"), random.Random(1))
    told = json.loads(json.dumps(explain(outcome)))
    assert [choice["replica"] for choice in told["choices"]] == ["one"]
    assert told["choices"][0]["scores"] == {"prefill": 0.5, "queue": 0.97, "kv": 1.0}
    assert told["choices"][0]["score"] == pytest.approx((3 * 0.5 + 2 * 0.97 + 1) / 6, abs=0.001)
    assert told["choices"][0]["reason"].endswith("a is the smallest pool that holds them (limit 100000)")
    assert {one["replica"]: one["filter"] for one in told["rejected"]} == {
        "full": "room",
        "leaving": "draining",
        "broken": "breaker",
        "little": "context",
        "foreign": "model",
        "again": "tried",
    }
    assert all(one["reason"] for one in told["rejected"])
    assert "http" not in json.dumps(told), "addresses are not for clients"


def test_every_refusal_can_be_explained() -> None:
    too_long = TooLong(need=NEED, largest_context_tokens=5)
    assert explain(too_long)["largest_context_tokens"] == 5
    assert explain(NoEndpoint(pools=(A,))) == {"outcome": "no-endpoint", "pools": ["a"], "rejected": []}
    assert explain(Saturated(pools=(A,))) == {"outcome": "saturated", "pools": ["a"], "rejected": []}


def test_a_lapsed_lease_does_not_forget_what_was_sent() -> None:
    table = table_of(endpoint("one"))
    table.started(ReplicaId("one"), 100)
    table.remove(ReplicaId("one"))
    assert len(table) == 0
    table.put(endpoint("one"))
    member = table.get(ReplicaId("one"))
    assert member is not None
    assert (member.load, member.prefill_tokens) == (1, 100)
    table.finished(ReplicaId("one"), 100)
    assert (member.load, member.prefill_tokens) == (0, 0)
