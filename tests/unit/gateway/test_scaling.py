"""What a gateway makes of decisions about replicas."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

import pytest

from cluster.config import LimitsSection
from cluster.core.admission.hold import Hold
from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.lease import PoolName
from services.gateway.scaling import STALE_S, Scaling
from tests.unit.core.autoscaling.test_record import DECISION, RECORD, SPEED

SHORT, LONG = PoolName("short"), PoolName("long")


class Store:
    def __init__(self, record: AutoscaleRecord | None) -> None:
        self.record = record

    async def records(self, pools: Collection[PoolName]) -> dict[PoolName, AutoscaleRecord]:
        return {} if self.record is None else dict.fromkeys(pools, self.record)


async def test_a_start_that_was_ordered_is_nearer() -> None:
    store = Store(replace(RECORD, written_s=1000.0, ordered_s=990.0))
    scaling = Scaling(store, pools=lambda: [SHORT], clock=lambda: 1005.0)
    assert scaling.starts_in_s(SHORT) is None
    await scaling._read()
    assert scaling.starts_in_s(SHORT) == 15.0
    assert scaling.starts_in_s(LONG) is None


async def test_where_nobody_decides_any_more_a_start_takes_its_whole_time() -> None:
    store = Store(replace(RECORD, written_s=1000.0, ordered_s=990.0))
    scaling = Scaling(store, pools=lambda: [SHORT], clock=lambda: 1000.0 + STALE_S + 1)
    await scaling._read()
    assert scaling.hold(SHORT, LimitsSection(hold_s=7)) == Hold(limit_s=7, starts_in_s=30.0)


async def test_what_replicas_were_measured_to_do() -> None:
    scaling = Scaling(Store(RECORD), pools=lambda: [SHORT], clock=lambda: 0.0)
    assert scaling.speed(SHORT) is None
    await scaling._read()
    assert scaling.speed(SHORT) == SPEED


async def test_a_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(RECORD)
    scaling = Scaling(store, pools=lambda: [SHORT], clock=lambda: 0.0)
    with caplog.at_level(logging.INFO):
        await scaling._read()
        store.record = replace(RECORD, decision=replace(DECISION, replicas=3))
        await scaling._read()
        await scaling._read()
    (told,) = [record for record in caplog.records if record.message == "replicas decided"]
    assert (told.__dict__["pool"], told.__dict__["replicas"], told.__dict__["reason"]) == ("short", 3, "because")
