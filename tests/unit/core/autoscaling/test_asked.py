"""Gateways come and go; a pool's arrivals only grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.autoscaling.asked import ArrivalTotals, GatewayAsked, PoolAsked, of_pool
from cluster.core.autoscaling.demand import Arrivals
from cluster.core.lease import PoolName

SHORT, LONG = PoolName("short"), PoolName("long")


def test_it_survives_the_store() -> None:
    told = PoolAsked(requests=3, prefill_tokens=900, output_tokens=40, held=2, held_tokens=70, oldest_wait_s=1.25)
    asked = GatewayAsked(gateway="g1", pools={SHORT: told, LONG: PoolAsked()})
    assert GatewayAsked.from_dict(asked.to_dict()) == asked


def test_another_version_may_tell_more_or_less() -> None:
    found = GatewayAsked.from_dict({"gateway": "g", "pools": {"short": {"requests": 4, "of_tomorrow": 1}}})
    assert found.pools[SHORT] == PoolAsked(requests=4)
    with pytest.raises(KeyError):
        GatewayAsked.from_dict({"gateway": "g"})
    with pytest.raises(AttributeError):
        GatewayAsked.from_dict({"gateway": "g", "pools": []})


def test_a_pool_nobody_asks_for() -> None:
    assert of_pool([GatewayAsked(gateway="g", pools={SHORT: PoolAsked(requests=1)})], LONG) == {"g": PoolAsked()}


def test_what_a_gateway_counted_before_it_was_seen_is_not_new() -> None:
    totals = ArrivalTotals()
    assert totals.update({"a": PoolAsked(requests=1000)}) == Arrivals()
    assert totals.update({"a": PoolAsked(requests=1003)}).requests == 3
    # A second one, long at work behind a network fault, brings only what comes from now on.
    assert totals.update({"a": PoolAsked(requests=1003), "b": PoolAsked(requests=9)}).requests == 3
    assert totals.update({"b": PoolAsked(requests=10, cached_tokens=5)}) == Arrivals(requests=4, cached_tokens=5)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)), max_size=20))
def test_the_sum_never_shrinks(readings: list[dict[str, int]]) -> None:
    totals, last = ArrivalTotals(), 0
    for reading in readings:
        found = totals.update({gateway: PoolAsked(requests=count) for gateway, count in reading.items()})
        assert found.requests >= last
        last = found.requests
