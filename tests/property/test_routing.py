"""Routing by context length, for every need there is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    ESTIMATE_ERROR_RATIO,
    Decision,
    Endpoint,
    NoEndpoint,
    Pool,
    TooLong,
    fitting_pools,
    route,
)

POOLS = st.lists(
    st.builds(
        Pool,
        name=st.sampled_from("abcdefgh").map(PoolName),
        model=st.just("m"),
        context_tokens=st.integers(16, 5_000),
        verifies=st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda pool: pool.name,
)
NEEDS = st.builds(
    ContextNeed,
    prompt_tokens=st.integers(0, 12_000),
    output_tokens=st.integers(0, 3_000),
    is_explicit=st.booleans(),
    count=st.sampled_from(CountKind),
)
ENDPOINTS = st.lists(
    st.builds(
        Endpoint,
        replica_id=st.integers(0, 10**9).map(lambda number: ReplicaId(str(number))),
        pool=st.sampled_from("abcdefgh").map(PoolName),
        url=st.just("http://x"),
        accepts=st.booleans(),
        load=st.integers(0, 50),
        is_suspect=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda endpoint: endpoint.replica_id,
)


@given(need=NEEDS, pools=POOLS)
def test_every_need_maps_to_pools_that_hold_it_or_to_none(need: ContextNeed, pools: list[Pool]) -> None:
    fits = fitting_pools(need, pools)
    holding = [pool for pool in pools if need.total_tokens <= pool.context_tokens]
    if holding:
        assert {pool.name for pool, _ in fits} == {pool.name for pool in holding}
        assert all(output == need.output_tokens for _, output in fits)
    limits = [pool.context_tokens for pool, _ in fits]
    assert limits == sorted(limits)
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


@given(need=NEEDS, pools=POOLS, endpoints=ENDPOINTS, seed=st.integers())
def test_a_decision_is_complete_and_ordered(
    need: ContextNeed, pools: list[Pool], endpoints: list[Endpoint], seed: int
) -> None:
    decision = route(need, pools, endpoints, random.Random(seed))
    fits = [pool.name for pool, _ in fitting_pools(need, pools)]
    usable = {endpoint.replica_id for endpoint in endpoints if endpoint.accepts and endpoint.pool in fits}
    if not fits:
        assert isinstance(decision, TooLong)
        assert decision.largest_context_tokens == max(pool.context_tokens for pool in pools)
    elif not usable:
        assert decision == NoEndpoint(pools=tuple(fits))
    else:
        assert isinstance(decision, Decision)
        chosen = [choice.endpoint for choice in decision.choices]
        assert {endpoint.replica_id for endpoint in chosen} == usable
        assert len(chosen) == len(usable)
        order = [(endpoint.is_suspect, fits.index(endpoint.pool), endpoint.load) for endpoint in chosen]
        assert order == sorted(order)
        assert all(choice.reason.isascii() and "\n" not in choice.reason for choice in decision.choices)


@given(pools=POOLS, endpoints=ENDPOINTS, prompt=st.integers(0, 5_000), more=st.integers(0, 5_000))
def test_a_longer_prompt_never_goes_to_a_smaller_pool(
    pools: list[Pool], endpoints: list[Endpoint], prompt: int, more: int
) -> None:
    def smallest(tokens: int) -> float:
        need = ContextNeed(prompt_tokens=tokens, output_tokens=1, is_explicit=True)
        fits = fitting_pools(need, pools)
        return fits[0][0].context_tokens if fits else float("inf")

    assert smallest(prompt) <= smallest(prompt + more)


def test_equals_are_shuffled_and_the_seed_decides() -> None:
    pool = Pool(name=PoolName("a"), model="m", context_tokens=100)
    need = ContextNeed(prompt_tokens=1, output_tokens=1, is_explicit=True)
    members = [
        Endpoint(replica_id=ReplicaId(str(n)), pool=pool.name, url="http://x", accepts=True, load=0) for n in range(5)
    ]

    def first(seed: int) -> str:
        decision = route(need, [pool], members, random.Random(seed))
        assert isinstance(decision, Decision)
        return decision.choices[0].endpoint.replica_id

    assert {first(seed) for seed in range(60)} == {"0", "1", "2", "3", "4"}
    assert first(7) == first(7)
