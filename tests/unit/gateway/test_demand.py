"""What a gateway counts for pools, and when it tells."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from cluster.core.autoscaling.asked import UNCHANGED_PUBLISH_S, GatewayAsked, PoolAsked
from cluster.core.lease import PoolName
from services.gateway.demand import Demand
from services.gateway.waiting import Standing

SHORT, LONG = PoolName("short"), PoolName("long")


@dataclass
class Store:
    told: list[GatewayAsked] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    is_away: bool = False

    async def put_asked(self, asked: GatewayAsked) -> None:
        self.told.append(asked)

    async def drop_asked(self, gateway: str) -> None:
        if self.is_away:
            raise ConnectionError("taken away")
        self.dropped.append(gateway)


@dataclass
class World:
    now_s: float = 0.0
    lines: dict[PoolName, Standing] = field(default_factory=dict)
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        self.demand = Demand(self.store, gateway="g", standing=lambda: self.lines, clock=lambda: self.now_s)


def test_requests_count_for_their_pool_until_their_end() -> None:
    world = World()
    world.demand.arrived(SHORT, prefill_tokens=100, cached_tokens=20)
    world.demand.arrived(SHORT, prefill_tokens=5)
    world.demand.ended(SHORT, 30)
    world.lines[LONG] = Standing(requests=2, prefill_tokens=70, oldest_wait_s=1.5)
    assert world.demand.asked() == GatewayAsked(
        gateway="g",
        pools={
            LONG: PoolAsked(held=2, held_tokens=70, oldest_wait_s=1.5),
            SHORT: PoolAsked(requests=2, prefill_tokens=105, cached_tokens=20, answers=1, output_tokens=30),
        },
    )


async def test_what_did_not_change_is_told_less_often() -> None:
    world = World()
    world.demand.arrived(SHORT, prefill_tokens=1)
    await world.demand._tell()
    await world.demand._tell()
    assert len(world.store.told) == 1
    world.demand.arrived(SHORT, prefill_tokens=1)
    await world.demand._tell()
    world.now_s += UNCHANGED_PUBLISH_S
    await world.demand._tell()
    assert [told.pools[SHORT].requests for told in world.store.told] == [1, 2, 2]


async def test_it_says_goodbye_and_a_store_that_is_away_holds_nobody_up() -> None:
    world = World()
    await world.demand.close()
    assert world.store.dropped == ["g"]
    world.store.is_away = True
    await world.demand.close()


async def test_without_a_store_it_only_counts() -> None:
    demand = Demand(None, gateway="g", standing=dict, clock=lambda: 0.0)
    demand.arrived(SHORT, prefill_tokens=1)
    await asyncio.gather(demand.follow(), demand.close())
    assert demand.asked().pools[SHORT].requests == 1
