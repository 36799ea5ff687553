"""Boundaries at several gateway processes: what they count, how they agree, and what a reload keeps."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.config import parse_config
from cluster.core.autoscaling import PoolSpeed
from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.autoscaling.work import ReplicaWork
from cluster.core.boundary import BoundaryRecord, GatewaySeen
from cluster.core.lease import PoolName
from cluster.core.outcome import ReplicaOutcome
from cluster.core.routing.pools import ANY_LENGTH
from cluster.state.boundary import Heard
from services.gateway.boundary import NOT_KNOWN, Boundaries
from services.gateway.catalog import Catalog
from services.gateway.directory import Directory
from services.gateway.outcome import Served
from tests.gateway_harness import Leases, lease

SHORT, LONG = PoolName("short"), PoolName("long")
ADAPTIVE = """
models: [{id: tiny}]
pools:
  - {name: short, model: tiny, context_tokens: 1000}
  - {name: long, model: tiny, context_tokens: 4000}
gateway: {routing: {boundary: adaptive}}
"""
FIXED = ADAPTIVE.replace("adaptive", "fixed")
SPEED = PoolSpeed(prefill_tokens_per_s=1_500, decode_tokens_per_s=0, decode_sequences=0, kv_tokens=0, max_running=0)
STORE_AHEAD_S = 1e9
"""The store's clock is not the gateways'."""


@dataclass
class Store:
    """Shared by gateways: the first that asks has the turn, until it is taken away."""

    now_s: float = 0.0
    told: dict[str, GatewaySeen] = field(default_factory=dict)
    records: dict[PoolName, BoundaryRecord] = field(default_factory=dict)
    has_turn: bool = True
    is_away: bool = False

    async def exchange(self, told: GatewaySeen, pools: Collection[PoolName]) -> Heard:
        if self.is_away:
            raise ConnectionError("taken away")
        self.told[told.gateway] = told
        others = tuple(seen for gateway, seen in self.told.items() if gateway != told.gateway)
        records = {pool: record for pool, record in self.records.items() if pool in pools}
        turn, self.has_turn = self.has_turn, False
        return Heard(now_s=self.now_s + STORE_AHEAD_S, others=others, records=records, is_turn=turn)

    async def put(self, records: Iterable[BoundaryRecord]) -> None:
        self.records |= {record.smaller: record for record in records}


class Gateway:
    """One process, with its own clock."""

    def __init__(self, store: Store | None, name: str, *, text: str = ADAPTIVE, ahead_s: float = 0.0) -> None:
        self.leases = Leases([lease("short", "http://s:1"), lease("long", "http://l:1")])
        self.directory = Directory(self.leases, clock=lambda: self.now_s)
        self.speed: PoolSpeed | None = SPEED
        self.ahead_s = ahead_s
        self.now_s = ahead_s
        self.boundaries = Boundaries(
            store, gateway=name, directory=self.directory, speeds=lambda _: self.speed, clock=lambda: self.now_s
        )
        self.use(text)

    def use(self, text: str) -> None:
        self.catalog = Catalog(parse_config(text), {}.get)
        self.directory.use(self.catalog)
        self.boundaries.use(self.catalog)

    def serve(self, count: int, need_tokens: int, *, cached_tokens: int = 0) -> None:
        need = SimpleNamespace(likely_total_tokens=need_tokens)
        choice = SimpleNamespace(case=SimpleNamespace(query=SimpleNamespace(need=need)))
        served = cast("Served", SimpleNamespace(model_id="tiny", choice=choice))
        told = ReplicaOutcome(prompt_tokens=need_tokens - 1, output_tokens=1, cached_tokens=cached_tokens)
        for _ in range(count):
            self.boundaries.ended(served, told)

    @property
    def prefers(self) -> list[int]:
        return [pool.prefers_tokens for model in self.catalog.models for pool in self.directory.pools(model)]


async def started(store: Store | None, name: str, *, text: str = ADAPTIVE, ahead_s: float = 0.0) -> Gateway:
    gateway = Gateway(store, name, text=text, ahead_s=ahead_s)
    await gateway.directory.refresh()
    return gateway


def busy(*gateways: Gateway) -> None:
    """As much as the short pool computes: 60 s are the least that rates are taken over."""
    for gateway in gateways:
        gateway.serve(120 // len(gateways), 100)
        gateway.serve(100 // len(gateways), 800)


async def test_traffic_moves_the_boundary_and_routing_follows(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    gateway = await started(store, "a")
    assert gateway.prefers == [ANY_LENGTH, ANY_LENGTH]
    busy(gateway)
    with caplog.at_level(logging.INFO):
        await gateway.boundaries.round()
    assert gateway.boundaries.tokens == {SHORT: 707}
    assert gateway.prefers == [707, ANY_LENGTH]
    record = store.records[SHORT]
    assert (record.larger, record.tokens, record.limit_tokens) == (LONG, 707, 1000)
    assert record.written_s == record.moved_s == STORE_AHEAD_S
    (told,) = [line for line in caplog.records if line.message == "boundary moved"]
    assert (told.__dict__["pool"], told.__dict__["before"], told.__dict__["tokens"]) == ("short", 1000, 707)
    assert told.__dict__["reason"] == record.reason


async def test_each_sees_a_part_and_all_agree() -> None:
    """Of its own part alone, neither would move it."""
    store = Store()
    one, two = await started(store, "a"), await started(store, "b", ahead_s=5_000.0)
    busy(one, two)
    store.has_turn = False
    await one.boundaries.round()
    assert one.prefers == [ANY_LENGTH, ANY_LENGTH]
    store.has_turn = True
    await two.boundaries.round()
    assert two.boundaries.tokens == {SHORT: 707}
    await one.boundaries.round()
    assert one.prefers == two.prefers == [707, ANY_LENGTH]
    # A minute has not passed since the other's move, by the store's clock.
    for gateway in (one, two):
        gateway.now_s += 30.0
    store.now_s, store.has_turn = 30.0, True
    busy(one, one, one, one)
    await one.boundaries.round()
    assert store.records[SHORT].tokens == 707
    assert "it moved 30 s ago" in store.records[SHORT].reason


async def test_a_gateway_that_starts_goes_on_where_the_others_are() -> None:
    store = Store(records={SHORT: _record(500)}, has_turn=False)
    late = await started(store, "late")
    await late.boundaries.round()
    assert late.prefers == [500, ANY_LENGTH]
    store.has_turn = True
    await late.boundaries.round()
    assert (store.records[SHORT].tokens, store.records[SHORT].moved_s) == (500, None)


async def test_a_store_that_is_away_or_was_emptied_changes_nothing() -> None:
    store = Store()
    gateway = await started(store, "a")
    busy(gateway)
    await gateway.boundaries.round()
    store.is_away = True
    with pytest.raises(ConnectionError):
        await gateway.boundaries.round()
    assert gateway.prefers == [707, ANY_LENGTH]
    store.is_away, store.has_turn = False, True
    store.records.clear()
    await gateway.boundaries.round()
    assert gateway.prefers == [707, ANY_LENGTH]
    assert store.records[SHORT].tokens == 707


async def test_without_a_store_nothing_moves() -> None:
    gateway = await started(None, "a")
    busy(gateway)
    await gateway.boundaries.follow()
    assert gateway.prefers == [ANY_LENGTH, ANY_LENGTH]


async def test_fixed_counts_nothing_and_asks_nobody() -> None:
    store = Store()
    gateway = await started(store, "a", text=FIXED)
    busy(gateway)
    follows = asyncio.create_task(gateway.boundaries.follow())
    await asyncio.sleep(0)
    follows.cancel()
    assert (gateway.boundaries.tokens, store.told, store.records) == ({}, {}, {})
    assert gateway.prefers == [ANY_LENGTH, ANY_LENGTH]


async def test_while_a_speed_is_not_known_it_is_said_once_and_nobody_is_overruled() -> None:
    store = Store()
    gateway = await started(store, "a")
    gateway.speed = None
    busy(gateway)
    await gateway.boundaries.round()
    assert (store.records[SHORT].reason, store.records[SHORT].tokens) == (NOT_KNOWN, 1000)
    store.records[SHORT], store.has_turn = _record(500), True
    await gateway.boundaries.round()
    assert store.records[SHORT] == _record(500)
    assert gateway.prefers == [500, ANY_LENGTH]


async def test_speed_is_measured_from_leases() -> None:
    store = Store()
    gateway = await started(store, "a")
    gateway.speed = None
    busy(gateway)
    for busy_s in (1.0, 11.0):
        gateway.leases.held = [replace(each, work=_work(busy_s)) for each in gateway.leases.held]
        await gateway.directory.refresh()
        store.has_turn = True
        await gateway.boundaries.round()
    assert store.records[SHORT].tokens == 707


async def test_cached_tokens_are_no_work() -> None:
    store = Store()
    gateway = await started(store, "a")
    gateway.serve(120, 100)
    gateway.serve(100, 800, cached_tokens=790)
    await gateway.boundaries.round()
    assert store.records[SHORT].tokens == 1000


async def test_what_a_reload_keeps() -> None:
    store = Store()
    gateway = await started(store, "a")
    busy(gateway)
    await gateway.boundaries.round()
    # Nothing about the pair: all of it.
    gateway.use(ADAPTIVE.replace("{id: tiny}", "{id: tiny, aliases: [other]}"))
    assert gateway.prefers == [707, ANY_LENGTH]
    await gateway.boundaries.round()
    assert store.told["a"].pairs[SHORT].seen.requests == pytest.approx(220)
    # Another limit: the boundary stays within it, and counting begins anew.
    gateway.use(ADAPTIVE.replace("1000", "600"))
    assert (gateway.boundaries.tokens, gateway.prefers) == ({SHORT: 600}, [ANY_LENGTH, ANY_LENGTH])
    await gateway.boundaries.round()
    assert store.told["a"].pairs[SHORT].seen.requests == 0
    # Fixed: at once.
    gateway.use(FIXED)
    assert (gateway.boundaries.tokens, gateway.prefers) == ({}, [ANY_LENGTH, ANY_LENGTH])
    # And again adaptive: from what is in force at the others, in the next round.
    gateway.use(ADAPTIVE)
    assert gateway.boundaries.tokens == {SHORT: 1000}
    await gateway.boundaries.round()
    assert gateway.boundaries.tokens == {SHORT: store.records[SHORT].tokens}


async def test_replicas_with_less_than_configured_lower_the_limit() -> None:
    store = Store()
    gateway = await started(store, "a")
    gateway.leases.held[0] = replace(gateway.leases.held[0], context_tokens=800)
    await gateway.directory.refresh()
    await gateway.boundaries.round()
    assert store.records[SHORT].limit_tokens == 800


def _record(tokens: int) -> BoundaryRecord:
    return BoundaryRecord(
        smaller=SHORT, larger=LONG, tokens=tokens, limit_tokens=1000, reason="because", written_s=STORE_AHEAD_S
    )


def _work(busy_s: float) -> dict[str, Any]:
    counters = SpeedCounters(
        prefill_tokens=math.floor(1_500 * busy_s), prefill_busy_s=busy_s, prefill_token_s=5_000 * busy_s
    )
    return ReplicaWork(counters=counters).to_dict()
