"""What is decided about pools' replicas, as far as this gateway has heard: for requests that wait for a start, metrics
and the log.

What must not live here: deciding.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from cluster.config import LimitsSection
from cluster.core.admission.hold import Hold
from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.lease import PoolName
from services.gateway.following import follow_store

logger = logging.getLogger(__name__)
POLL_S = 1.0
"""A start takes tens of seconds: a second more or less of it known changes nobody's mind."""
STALE_S = 30.0
"""A decision nobody has repeated for so long says nothing about replicas on their way."""


class RecordReader(Protocol):
    """What is needed of the state store; cluster/state's AutoscaleStore is one."""

    async def records(self, pools: Collection[PoolName]) -> dict[PoolName, AutoscaleRecord]:
        """The latest decision about each of `pools`, where there is one."""
        ...


class Scaling:
    """The latest decision about each pool whose replicas follow the load.

    Args:
        store: where they are; None: nowhere.
        pools: which, as configured now.
        clock: seconds since the epoch: decisions are made on another machine.
    """

    def __init__(
        self, store: RecordReader | None, *, pools: Callable[[], Collection[PoolName]], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._pools = pools
        self._clock = clock
        self._records: dict[PoolName, AutoscaleRecord] = {}

    @property
    def records(self) -> Mapping[PoolName, AutoscaleRecord]:
        """As last read."""
        return self._records

    def starts_in_s(self, pool: PoolName) -> float | None:
        """Expected seconds until the next replica of `pool` serves; None: not known."""
        record = self._records.get(pool)
        if record is None:
            return None
        now_s = self._clock()
        if now_s - record.written_s > STALE_S:
            # Whoever decides has gone: what it ordered may have come and gone too.
            return record.demand.startup_s
        return record.starts_in_s(now_s)

    def speed(self, pool: PoolName) -> PoolSpeed | None:
        """What one replica of `pool` does, as whoever decides has measured it; None: not known."""
        record = self._records.get(pool)
        return None if record is None else record.demand.speed

    def hold(self, pool: PoolName, limits: LimitsSection) -> Hold:
        """The terms on which a request waits for the first replica of `pool`."""
        return Hold(limit_s=limits.hold_s, starts_in_s=self.starts_in_s(pool))

    async def follow(self) -> None:
        """Read again and again, until cancelled."""
        if self._store is not None:
            await follow_store(self._read, what="autoscaling", retry_s=POLL_S)

    async def _read(self) -> None:
        assert self._store is not None
        pools = self._pools()
        records = await self._store.records(pools) if pools else {}
        for pool, record in records.items():
            known = self._records.get(pool)
            if known is not None and known.decision.replicas != record.decision.replicas:
                _tell(record)
        self._records = records
        await asyncio.sleep(POLL_S)


def _tell(record: AutoscaleRecord) -> None:
    decision = record.decision
    logger.info(
        "replicas decided",
        extra={
            "pool": decision.pool,
            "replicas": decision.replicas,
            "current": decision.current,
            "needed_now": round(decision.needed_now, 2),
            "needed_ahead": round(decision.needed_ahead, 2),
            "bound": decision.bound.value,
            "reason": decision.reason,
        },
    )
