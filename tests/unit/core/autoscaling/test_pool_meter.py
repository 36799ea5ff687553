"""A pool's speed outlives its replicas."""

from __future__ import annotations

import pytest

from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.autoscaling.pool_meter import PoolMeter
from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.autoscaling.work import ReplicaWork
from cluster.core.lease import ReplicaId

ONE, TWO = ReplicaId("one"), ReplicaId("two")
BEFORE = PoolSpeed(prefill_tokens_per_s=9, decode_tokens_per_s=8, decode_sequences=2, kv_tokens=7, max_running=6)


def work(busy_s: float, *, kv_tokens: int = 4_096) -> ReplicaWork:
    counters = SpeedCounters(prefill_tokens=int(1_000 * busy_s), prefill_busy_s=busy_s, prefill_token_s=5_000 * busy_s)
    return ReplicaWork(counters=counters, kv_tokens=kv_tokens)


def test_an_empty_pool_keeps_what_its_replicas_did() -> None:
    meter = PoolMeter()
    assert meter.measure({}, max_running=0) is None
    assert meter.measure({ONE: work(0.0), TWO: work(0.0, kv_tokens=2_048)}, max_running=8) is None
    found = meter.measure({ONE: work(10.0), TWO: work(10.0, kv_tokens=2_048)}, max_running=8)
    assert found is not None
    assert found.prefill_tokens_per_s == pytest.approx(1_000)
    assert (found.kv_tokens, found.max_running) == (2_048, 8)
    assert meter.measure({}, max_running=0) == meter.speed == found


def test_what_somebody_else_has_measured_counts_until_there_is_more() -> None:
    meter = PoolMeter(BEFORE)
    assert meter.measure({ONE: work(0.0)}, max_running=8) == BEFORE
    found = meter.measure({ONE: work(10.0)}, max_running=8)
    assert found is not None
    assert found.prefill_tokens_per_s == pytest.approx(1_000)
