"""What the state store of a cluster holds at one moment, for people.

What must not live here: what is made of it (observe.py), changing anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core.autoscaling.asked import of_pool
from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.lease import Lease, PoolName, ReplicaReport
from cluster.state.autoscale import AutoscaleStore
from cluster.state.leases import LeaseStore, connect

CLOCK_SLACK_S = 2.0
"""How far a replica's clock may be behind ours before its first report counts as one of an earlier run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolScaling:
    """What waits for a pool, and what was decided about it."""

    held: int = 0
    """Requests that wait at gateways."""
    oldest_wait_s: float = 0.0
    pinned: int | None = None
    record: AutoscaleRecord | None = None
    """The latest decision; None where nobody decides, or nobody has yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateView:
    """Leases, reports and scaling at one moment; `error` is why there are none."""

    leases: tuple[Lease, ...] = ()
    reports: tuple[ReplicaReport, ...] = ()
    scaling: Mapping[PoolName, PoolScaling] = field(default_factory=dict)
    """Of the pools that were asked for."""
    read_s: float = 0.0
    """When it was read, seconds since the epoch."""
    error: str = ""

    def since(self, began_s: float) -> StateView:
        """Without what was written before `began_s`, which is about earlier runs."""
        first_s = began_s - CLOCK_SLACK_S
        scaling = {
            pool: each if each.record is None or each.record.written_s >= first_s else replace(each, record=None)
            for pool, each in self.scaling.items()
        }
        reports = tuple(report for report in self.reports if report.written_s >= first_s)
        return replace(self, reports=reports, scaling=scaling)


def read_state(url: str | None, cluster: str, pools: Iterable[PoolName] = ()) -> StateView:
    """What the state store holds now; never raises for a store that is away.

    Args:
        url: of the store, with the login; None: there is none.
        cluster: the cluster's name.
        pools: whose scaling is wanted.
    """
    if url is None:
        return StateView()
    names = tuple(pools)

    async def read() -> StateView:
        redis = connect(url)
        try:
            store = LeaseStore(redis, cluster)
            return StateView(
                leases=await store.leases(),
                reports=await store.reports(),
                scaling=await read_scaling(redis, cluster, names) if names else {},
                read_s=time.time(),
            )
        finally:
            await redis.aclose()

    try:
        return asyncio.run(read())
    except (RedisError, OSError) as error:
        return StateView(read_s=time.time(), error=str(error) or type(error).__name__)


async def read_scaling(redis: Redis, cluster: str, pools: Iterable[PoolName]) -> dict[PoolName, PoolScaling]:
    """The scaling of each of `pools`.

    Raises:
        RedisError: the store cannot be reached; so does OSError.
    """
    store, names = AutoscaleStore(redis, cluster), tuple(pools)
    gateways, pins, records = await store.asked(), await store.pins(names), await store.records(names)
    found = {}
    for pool in names:
        asked = of_pool(gateways, pool).values()
        found[pool] = PoolScaling(
            held=sum(told.held for told in asked),
            oldest_wait_s=max((told.oldest_wait_s for told in asked), default=0.0),
            pinned=pins.get(pool),
            record=records.get(pool),
        )
    return found
