"""What the directory believes, as leases come, go and fall silent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cluster.config import parse_config
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.routing.breaker import COOL_DOWN_S, FAILURES_TO_OPEN
from cluster.core.routing.pools import ANY_LENGTH
from services.gateway.catalog import Catalog
from services.gateway.directory import RETURN_GRACE_S, SUSPECT_S, Directory, EndpointState
from tests.gateway_harness import TWO_POOLS, Leases, lease

SHORT = PoolName("short")
STATIC = """
models: [{id: m}]
pools: [{name: s, model: m, context_tokens: 100, endpoints: [{url: "http://a:1/v1"}, {url: "http://b:1/"}]}]
"""


@dataclass(slots=True)
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def catalog(text: str = TWO_POOLS) -> Catalog:
    return Catalog(parse_config(text), {}.get)


def ids(directory: Directory) -> set[str]:
    return set(directory.table.replica_ids())


async def test_a_lease_that_is_gone_is_gone_at_once() -> None:
    store = Leases([lease("short", "http://a"), lease("long", "http://b")])
    directory = Directory(store, clock=Clock())
    await directory.refresh()
    assert ids(directory) == {"short-//a", "long-//b"}
    store.held.pop()
    await directory.refresh()
    assert ids(directory) == {"short-//a"}


async def test_an_outage_freezes_and_a_return_gives_time() -> None:
    clock = Clock()
    store = Leases([lease("short", "http://a"), lease("long", "http://b")])
    directory = Directory(store, clock=clock)
    await directory.refresh()
    store.is_away = True
    clock.now_s += 3600
    await directory.refresh()
    assert len(ids(directory)) == 2
    assert directory.age_s == 3600
    store.is_away, store.held = False, [lease("short", "http://a")]
    await directory.refresh()
    assert len(ids(directory)) == 2
    clock.now_s += RETURN_GRACE_S
    await directory.refresh()
    assert ids(directory) == {"short-//a"}


async def test_a_store_that_loses_everything_at_once_is_not_believed() -> None:
    clock = Clock()
    held = [lease("short", "http://a"), lease("long", "http://b")]
    store = Leases(list(held))
    directory = Directory(store, clock=clock)
    gone: list[str] = []
    directory.on_gone = lambda lease: gone.append(lease.replica_id)
    await directory.refresh()
    store.held = []
    await directory.refresh()
    assert len(ids(directory)) == 2
    store.held = held[:1]
    clock.now_s += RETURN_GRACE_S / 2
    await directory.refresh()
    assert (len(ids(directory)), gone) == (2, [])
    clock.now_s += RETURN_GRACE_S
    await directory.refresh()
    assert (ids(directory), gone) == ({"short-//a"}, ["long-//b"])


async def test_a_store_that_stays_empty_is_believed_in_the_end() -> None:
    clock = Clock()
    store = Leases([lease("short", "http://a"), lease("long", "http://b")])
    directory = Directory(store, clock=clock)
    gone: list[str] = []
    directory.on_gone = lambda lease: gone.append(lease.replica_id)
    await directory.refresh()
    store.held = []
    for _ in range(2):
        await directory.refresh()
        assert len(ids(directory)) == 2
        clock.now_s += RETURN_GRACE_S / 2
    await directory.refresh()
    assert (ids(directory), sorted(gone)) == (set(), ["long-//b", "short-//a"])


async def test_whoever_waits_for_a_reading_finds_who_is_new_in_it() -> None:
    store = Leases()
    directory = Directory(store, clock=Clock())
    await directory.refresh()
    found: list[set[str]] = []

    async def look() -> None:
        await directory.next_reading()
        found.append(ids(directory))

    waiting = [asyncio.create_task(look()) for _ in range(2)]
    await asyncio.sleep(0)
    store.is_away = True
    await directory.refresh()
    await asyncio.sleep(0)
    assert found == []
    store.is_away, store.held = False, [lease("short", "http://a")]
    await directory.refresh()
    await asyncio.gather(*waiting)
    assert found == [{"short-//a"}] * 2


async def test_an_endpoint_that_failed_is_suspect_for_a_while() -> None:
    clock = Clock()
    directory = Directory(Leases([lease("short", "http://a", name="a")]), clock=clock)
    await directory.refresh()
    directory.suspect(ReplicaId("a"))
    assert directory.states(catalog())[SHORT][EndpointState.SUSPECT] == 1
    clock.now_s += SUSPECT_S + 0.01
    directory.tick()
    assert directory.states(catalog())[SHORT][EndpointState.READY] == 1


async def test_own_requests_count_as_load_until_they_end() -> None:
    directory = Directory(Leases([lease("short", "http://a", name="a", load=3)]), clock=Clock())
    await directory.refresh()
    member = directory.table.get(ReplicaId("a"))
    assert member is not None
    directory.started(ReplicaId("a"), 10)
    directory.started(ReplicaId("a"), 20)
    assert (member.load, member.prefill_tokens) == (5, 30)
    directory.table.finished(ReplicaId("a"), 10)
    directory.table.finished(ReplicaId("a"), 20)
    directory.table.finished(ReplicaId("a"))
    assert (member.load, member.prefill_tokens) == (3, 0)


async def test_a_breaker_opens_after_failures_and_lets_one_through_again() -> None:
    clock = Clock()
    directory = Directory(Leases([lease("short", "http://a", name="a")]), clock=clock)
    await directory.refresh()
    member = directory.table.get(ReplicaId("a"))
    assert member is not None
    for _ in range(FAILURES_TO_OPEN):
        assert not member.is_breaker_open
        directory.failed(ReplicaId("a"))
    assert member.is_breaker_open
    clock.now_s += COOL_DOWN_S + 0.01
    directory.tick()
    assert not member.is_breaker_open
    directory.started(ReplicaId("a"), 0)
    assert member.is_breaker_open
    directory.answered(ReplicaId("a"))
    assert not member.is_breaker_open


async def test_a_replica_with_a_smaller_context_lowers_its_pools_limit() -> None:
    store = Leases([lease("long", "http://a", context=3000), lease("long", "http://b", context=4000)])
    directory = Directory(store, clock=Clock())
    await directory.refresh()
    pools = {pool.name: pool.context_tokens for pool in directory.pools(catalog().models[0])}
    assert pools == {"short": 1000, "long": 3000}


async def test_what_pools_prefer_changes_at_once_and_outlives_leases() -> None:
    store = Leases([lease("short", "http://a"), lease("long", "http://b")])
    directory = Directory(store, clock=Clock())
    (model,) = catalog().models

    def prefers() -> list[int]:
        return [pool.prefers_tokens for pool in directory.pools(model)]

    assert prefers() == [ANY_LENGTH, ANY_LENGTH]
    directory.prefer({SHORT: 700})
    assert prefers() == [700, ANY_LENGTH]
    await directory.refresh()
    assert prefers() == [700, ANY_LENGTH]
    directory.prefer({})
    assert prefers() == [ANY_LENGTH, ANY_LENGTH]


async def test_leases_of_unknown_pools_are_nobody() -> None:
    directory = Directory(Leases([lease("other", "http://a")]), clock=Clock())
    await directory.refresh()
    assert ids(directory) == {"other-//a"}
    assert sum(sum(counts.values()) for counts in directory.states(catalog()).values()) == 0


async def test_static_endpoints_need_no_store_and_come_last_when_down() -> None:
    directory = Directory(None, clock=Clock())
    await directory.refresh()
    static = catalog(STATIC)
    directory.use(static)
    members = list(directory.table.members())
    assert [member.endpoint.url for member in members] == ["http://a:1", "http://b:1"]
    directory.set_down(frozenset({ReplicaId("s-static-1")}))
    assert [member.is_suspect for member in members] == [False, True]
    assert not directory.pools(static.models[0])[0].verifies
    assert directory.age_s is None
    directory.use(catalog())
    assert ids(directory) == set()
