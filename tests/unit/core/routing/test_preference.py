"""A pool may prefer shorter requests than it holds."""

from __future__ import annotations

import random

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing import (
    Decision,
    Endpoint,
    EndpointTable,
    Policy,
    Pool,
    Query,
    fitting_pools,
    profile_of,
    route,
)


def test_a_preference_moves_a_request_to_a_larger_pool_and_refuses_none() -> None:
    short = Pool(name=PoolName("short"), model="m", context_tokens=1_000, prefers_tokens=400)
    long = Pool(name=PoolName("long"), model="m", context_tokens=10_000)
    table = EndpointTable()
    for pool in (short, long):
        table.put(Endpoint(replica_id=ReplicaId(pool.name), pool=pool.name, url="", accepts=True, capacity=4))

    def served(tokens: int, table: EndpointTable) -> tuple[str, str]:
        need = ContextNeed(prompt_tokens=tokens - 1, output_tokens=1, is_explicit=True)
        decision = route(Query(need=need), [long, short], table, profile_of(Policy.BALANCED), random.Random(1))
        assert isinstance(decision, Decision)
        return decision.first.endpoint.pool, decision.first.reason

    assert served(400, table)[0] == "short"
    name, reason = served(401, table)
    assert name == "long"
    assert "short prefers up to 400, long is the next larger pool" in reason
    table.put(Endpoint(replica_id=ReplicaId("long"), pool=long.name, url="", accepts=True, capacity=4, running=4))
    name, reason = served(401, table)
    assert name == "short"
    assert "long is full, short holds them too" in reason


def test_a_bound_on_a_short_prompt_is_no_length() -> None:
    """Gateways look no closer at prompts that surely fit."""
    pools = [
        Pool(name=PoolName("short"), model="m", context_tokens=1_000, prefers_tokens=400),
        Pool(name=PoolName("long"), model="m", context_tokens=10_000),
    ]
    for likely, first in ((380, "short"), (381, "long"), (None, "long")):
        need = ContextNeed(
            prompt_tokens=900,
            output_tokens=20,
            is_explicit=True,
            count=CountKind.AT_MOST,
            likely_prompt_tokens=likely,
        )
        assert next(pool.name for pool, _ in fitting_pools(need, pools)) == first


def test_the_largest_pools_take_what_nobody_prefers() -> None:
    sizes = {"a": (100, 10), "b": (200, 10), "c": (300, 10), "d": (300, 50)}
    pools = [
        Pool(name=PoolName(name), model="m", context_tokens=limit, prefers_tokens=prefers)
        for name, (limit, prefers) in sizes.items()
    ]
    need = ContextNeed(prompt_tokens=59, output_tokens=1, is_explicit=True)
    assert [pool.name for pool, _ in fitting_pools(need, pools)] == ["c", "d", "a", "b"]
