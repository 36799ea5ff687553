"""Routing by context length and load, for every need there is."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    ESTIMATE_ERROR_RATIO,
    Decision,
    Endpoint,
    EndpointTable,
    NoEndpoint,
    Policy,
    Pool,
    Query,
    Saturated,
    Tier,
    TooLong,
    explain,
    fitting_pools,
    profile_of,
    route,
)
from cluster.core.routing.candidates import CANDIDATES_MAX, LEAST_LOADED_MIN
from cluster.core.routing.pools import ANY_LENGTH

IDS_MAX = 50


def members_of(bits: int) -> frozenset[ReplicaId]:
    return frozenset(ReplicaId(str(number)) for number in range(IDS_MAX) if bits >> number & 1)


POOLS = st.lists(
    st.builds(
        Pool,
        name=st.sampled_from("abcde").map(PoolName),
        model=st.just("m"),
        context_tokens=st.integers(16, 5_000),
        verifies=st.booleans(),
        prefers_tokens=st.just(ANY_LENGTH) | st.integers(0, 5_000),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda pool: pool.name,
)


def need_of(likely_ratio: float | None, **fields: Any) -> ContextNeed:
    need = ContextNeed(**fields)
    return need if likely_ratio is None else replace(need, likely_prompt_tokens=int(likely_ratio * need.prompt_tokens))


NEEDS = st.builds(
    need_of,
    likely_ratio=st.none() | st.floats(0, 1),
    prompt_tokens=st.integers(0, 6_000),
    output_tokens=st.integers(0, 2_000),
    is_explicit=st.booleans(),
    count=st.sampled_from(CountKind),
)
ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        replica_id=st.integers(0, IDS_MAX - 1).map(lambda number: ReplicaId(str(number))),
        pool=st.sampled_from("abcd").map(PoolName),
        url=st.just("http://x"),
        accepts=st.booleans(),
        running=st.integers(0, 8),
        waiting=st.integers(0, 3),
        capacity=st.integers(0, 8),
        queue_limit=st.integers(0, 4),
        kv_use_ratio=st.floats(0, 1),
        prefill_tokens=st.integers(0, 300_000),
        adapters=st.frozensets(st.sampled_from("xy")),
    ),
    max_size=IDS_MAX,
    unique_by=lambda endpoint: endpoint.replica_id,
)
# Sets as bits: half of all endpoints are in, where Hypothesis's own sets would hold a handful.
IDS = st.just(0).map(members_of) | st.integers(0, 2**IDS_MAX - 1).map(members_of)
QUERIES = st.builds(
    Query,
    need=NEEDS,
    session=st.none() | st.integers(0, 2**64 - 1),
    adapter=st.none() | st.sampled_from("xy"),
    resident=IDS.map(lambda ids: {replica_id: 50 * place for place, replica_id in enumerate(sorted(ids))}),
    tried=IDS,
    may_queue=st.booleans(),
    explains=st.booleans(),
)


def ranks_of(need: ContextNeed, pools: list[Pool]) -> dict[PoolName, int]:
    """The places of the pools that hold a need; those of one limit share one, unless one of them prefers shorter."""
    ranks: dict[PoolName, int] = {}
    rank, size_tokens = -1, None
    for pool, _ in fitting_pools(need, pools):
        rank, size_tokens = rank + (pool.context_tokens != size_tokens), pool.context_tokens
        ranks[pool.name] = rank
    return ranks


def filled(endpoints: list[Endpoint], suspects: frozenset[ReplicaId], broken: frozenset[ReplicaId]) -> EndpointTable:
    table = EndpointTable()
    for endpoint in endpoints:
        table.put(endpoint)
    for replica_id in suspects:
        table.set_suspect(replica_id, is_suspect=True)
    for replica_id in broken:
        table.set_breaker(replica_id, is_open=True)
    return table


@given(need=NEEDS, pools=POOLS)
def test_every_need_maps_to_pools_that_hold_it_or_to_none(need: ContextNeed, pools: list[Pool]) -> None:
    fits = fitting_pools(need, pools)
    holding = [pool for pool in pools if need.total_tokens <= pool.context_tokens]
    if holding:
        assert {pool.name for pool, _ in fits} == {pool.name for pool in holding}
        assert all(output == need.output_tokens for _, output in fits)
    most = max((pool.context_tokens for pool, _ in fits), default=0)
    wants_less = [pool.prefers_tokens < need.likely_total_tokens and pool.context_tokens < most for pool, _ in fits]
    limits = [pool.context_tokens for pool, _ in fits]
    home = min(holding, key=lambda pool: (pool.context_tokens, pool.prefers_tokens), default=None)
    if home is None or home.prefers_tokens >= need.likely_total_tokens:
        assert limits == sorted(limits)
    else:
        assert list(zip(wants_less, limits, strict=True)) == sorted(zip(wants_less, limits, strict=True))
    for pool, output in fits:
        if need.count is CountKind.ABOUT and need.prompt_tokens + output > pool.context_tokens:
            # Only replicas that count for themselves get what an estimate says is too long.
            assert pool.verifies
            assert need.prompt_tokens / ESTIMATE_ERROR_RATIO <= pool.context_tokens
        else:
            assert need.prompt_tokens + output <= pool.context_tokens


@given(need=NEEDS, pools=POOLS)
def test_a_named_output_is_never_shortened(need: ContextNeed, pools: list[Pool]) -> None:
    for _, output in fitting_pools(need, pools):
        if need.is_explicit:
            assert output == need.output_tokens
        else:
            assert 0 <= output <= need.output_tokens
            assert output >= 1 or need.output_tokens == 0


@given(pools=POOLS, output=st.integers(1, 15))
def test_the_boundary_is_exact(pools: list[Pool], output: int) -> None:
    for pool in pools:
        at = ContextNeed(prompt_tokens=pool.context_tokens - output, output_tokens=output, is_explicit=True)
        over = ContextNeed(prompt_tokens=at.prompt_tokens + 1, output_tokens=output, is_explicit=True)
        assert pool in [fit for fit, _ in fitting_pools(at, pools)]
        assert pool not in [fit for fit, _ in fitting_pools(over, pools)]


@given(pools=POOLS, prompt=st.integers(0, 5_000), more=st.integers(0, 5_000))
def test_a_longer_prompt_never_goes_to_a_smaller_pool(pools: list[Pool], prompt: int, more: int) -> None:
    def smallest(tokens: int) -> float:
        fits = fitting_pools(ContextNeed(prompt_tokens=tokens, output_tokens=1, is_explicit=True), pools)
        return fits[0][0].context_tokens if fits else float("inf")

    assert smallest(prompt) <= smallest(prompt + more)


@settings(max_examples=400)
@given(
    query=QUERIES,
    pools=POOLS,
    endpoints=ENDPOINTS,
    suspects=IDS,
    broken=IDS,
    policy=st.sampled_from(Policy),
    reserve_ratio=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    seed=st.integers(),
)
def test_every_query_has_one_outcome_and_it_keeps_the_rules(
    *,
    query: Query,
    pools: list[Pool],
    endpoints: list[Endpoint],
    suspects: frozenset[ReplicaId],
    broken: frozenset[ReplicaId],
    policy: Policy,
    reserve_ratio: float,
    seed: int,
) -> None:
    table = filled(endpoints, suspects, broken)
    outcome = route(query, pools, table, profile_of(policy, reserve_ratio=reserve_ratio), random.Random(seed))
    fits = {pool.name: pool.context_tokens for pool, _ in fitting_pools(query.need, pools)}
    askable = {
        endpoint.replica_id: endpoint
        for endpoint in endpoints
        if endpoint.accepts and endpoint.pool in fits and endpoint.replica_id not in broken
    }
    assert explain(outcome)["outcome"]
    if not fits:
        assert isinstance(outcome, TooLong)
        assert outcome.largest_context_tokens == max(pool.context_tokens for pool in pools)
        return
    if not askable:
        assert outcome == NoEndpoint(pools=tuple(fits))
        return
    ranks = ranks_of(query.need, pools)
    homes = [endpoint for endpoint in askable.values() if ranks[endpoint.pool] == 0]
    if isinstance(outcome, Saturated):
        assert set(outcome.pools) == {endpoint.pool for endpoint in askable.values()}
        free = [
            endpoint
            for endpoint in homes
            if endpoint.replica_id not in suspects | query.tried
            and (endpoint.capacity == 0 or endpoint.running + endpoint.waiting < endpoint.capacity)
        ]
        assert len(query.tried) > 10 or not free, "a free endpoint of the smallest pool was missed"
        return
    assert isinstance(outcome, Decision)
    chosen = [choice.endpoint for choice in outcome.choices]
    ids = [endpoint.replica_id for endpoint in chosen]
    assert 0 < len(ids) == len(set(ids)) <= CANDIDATES_MAX
    assert set(ids) <= askable.keys() - query.tried
    order = [(choice.tier, ranks[choice.endpoint.pool], -choice.score) for choice in outcome.choices]
    assert order == sorted(order)
    for choice in outcome.choices:
        assert choice.reason.isascii()
        assert "\n" not in choice.reason
        assert 0 <= choice.score <= 1
        assert all(0 <= score <= 1 for score in choice.scores.values())
        assert (choice.tier is Tier.SUSPECT) == (choice.endpoint.replica_id in suspects)
        if ranks[choice.endpoint.pool] > 0:
            assert choice.endpoint.waiting == 0
            assert choice.endpoint.kv_use_ratio <= 1 - reserve_ratio
            assert reserve_ratio < 1
        assert 0 <= choice.prefill_tokens <= query.need.prompt_tokens
    assert not set(ids) & {rejected.endpoint.replica_id for rejected in outcome.rejected}


@given(query=QUERIES, pools=POOLS, endpoints=ENDPOINTS, broken=IDS, seed=st.integers())
def test_asking_for_an_explanation_changes_nothing(
    query: Query, pools: list[Pool], endpoints: list[Endpoint], broken: frozenset[ReplicaId], seed: int
) -> None:
    table = filled(endpoints, frozenset(), broken)

    def ids(*, explains: bool) -> object:
        asked = Query(need=query.need, resident=query.resident, tried=query.tried, explains=explains)
        outcome = route(asked, pools, table, profile_of(Policy.BALANCED), random.Random(seed))
        if isinstance(outcome, Decision):
            return [choice.endpoint.replica_id for choice in outcome.choices]
        return outcome

    assert ids(explains=False) == ids(explains=True)


@given(
    endpoints=ENDPOINTS,
    prompt=st.integers(1, 4_000),
    holder=st.integers(0, 20),
    less=st.integers(0, 4_000),
    more=st.integers(0, 4_000),
    others=st.dictionaries(st.integers(0, 20), st.integers(0, 4_000), max_size=5),
    policy=st.sampled_from([Policy.LEAST_WORK, Policy.PREFIX, Policy.BALANCED]),
)
def test_a_longer_resident_prefix_never_lowers_the_rank(
    *,
    endpoints: list[Endpoint],
    prompt: int,
    holder: int,
    less: int,
    more: int,
    others: dict[int, int],
    policy: Policy,
) -> None:
    endpoints = endpoints[:CANDIDATES_MAX]
    pool = Pool(name=PoolName("a"), model="m", context_tokens=5_000)
    table = EndpointTable()
    for place, endpoint in enumerate(endpoints):
        table.put(
            Endpoint(
                replica_id=ReplicaId(str(place)),
                pool=pool.name,
                url="http://x",
                accepts=True,
                running=endpoint.running,
                prefill_tokens=endpoint.prefill_tokens,
                kv_use_ratio=endpoint.kv_use_ratio,
            )
        )
    if holder >= len(endpoints):
        return

    def better(resident_tokens: int) -> int:
        """How many endpoints are strictly better than the holder."""
        need = ContextNeed(prompt_tokens=prompt, output_tokens=1, is_explicit=True)
        resident = {ReplicaId(str(place)): tokens for place, tokens in others.items()}
        resident[ReplicaId(str(holder))] = resident_tokens
        query = Query(need=need, resident=resident)
        decision = route(query, [pool], table, profile_of(policy), random.Random(1))
        assert isinstance(decision, Decision)
        scores = {choice.endpoint.replica_id: choice.score for choice in decision.choices}
        return sum(score > scores[ReplicaId(str(holder))] for score in scores.values())

    assert better(less + more) <= better(less)


@given(count=st.integers(33, 120), busy=st.data())
def test_a_large_pool_still_finds_its_least_loaded(count: int, busy: st.DataObject) -> None:
    pool = Pool(name=PoolName("a"), model="m", context_tokens=5_000)
    idle = busy.draw(st.integers(0, count - 1))
    table = EndpointTable()
    for number in range(count):
        running = 0 if number == idle else 20
        table.put(
            Endpoint(
                replica_id=ReplicaId(str(number)),
                pool=pool.name,
                url="",
                accepts=True,
                running=running,
                capacity=64,
            )
        )
    need = ContextNeed(prompt_tokens=10, output_tokens=1, is_explicit=True)
    decision = route(Query(need=need), [pool], table, profile_of(Policy.LEAST_WORK), random.Random(count))
    assert isinstance(decision, Decision)
    assert decision.choices[0].endpoint.replica_id == str(idle)
    assert LEAST_LOADED_MIN <= len(decision.choices) <= CANDIDATES_MAX


def test_equals_are_shuffled_and_the_seed_decides() -> None:
    pool = Pool(name=PoolName("a"), model="m", context_tokens=100)
    need = ContextNeed(prompt_tokens=1, output_tokens=1, is_explicit=True)
    table = EndpointTable()
    for number in range(5):
        table.put(Endpoint(replica_id=ReplicaId(str(number)), pool=pool.name, url="http://x", accepts=True))

    def first(seed: int) -> str:
        decision = route(Query(need=need), [pool], table, profile_of(Policy.BALANCED), random.Random(seed))
        assert isinstance(decision, Decision)
        return decision.choices[0].endpoint.replica_id

    assert {first(seed) for seed in range(60)} == {"0", "1", "2", "3", "4"}
    assert first(7) == first(7)
