"""Speeds mean capacity: what was measured with little to do says so."""

from __future__ import annotations

import pytest

from cluster.core.autoscaling import PoolSpeed, SpeedCounters, SpeedMeter
from cluster.core.lease import ReplicaId

ONE, OTHER = ReplicaId("one"), ReplicaId("other")


class Busy:
    """A replica whose counters run."""

    def __init__(self, meter: SpeedMeter, replica_id: ReplicaId = ONE) -> None:
        self.meter, self.replica_id, self.counters = meter, replica_id, SpeedCounters()
        meter.observe(replica_id, self.counters)

    def prefill(self, tokens: int, seconds: float, backlog_tokens: float) -> None:
        self._add(prefill_tokens=tokens, prefill_busy_s=seconds, prefill_token_s=backlog_tokens * seconds)

    def decode(self, batch: float, step_s: float, seconds: float, blocked_s: float = 0.0) -> None:
        tokens = round(batch * (seconds - blocked_s) / step_s)
        self._add(
            decode_tokens=tokens, decode_busy_s=seconds, decode_sequence_s=batch * seconds, decode_blocked_s=blocked_s
        )

    def _add(self, **more: float) -> None:
        told = {name: getattr(self.counters, name) + more.get(name, 0) for name in SpeedCounters.__slots__}
        self.counters = SpeedCounters(**told)
        self.meter.observe(self.replica_id, self.counters)


def known(meter: SpeedMeter) -> PoolSpeed:
    speed = meter.speed()
    assert speed is not None
    return speed


def test_nothing_done_is_nothing_known() -> None:
    meter = SpeedMeter()
    Busy(meter)
    assert meter.speed() is None


def test_short_prompts_one_at_a_time_are_a_floor() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for _ in range(20):
        replica.prefill(1_000, 1.0, backlog_tokens=100)
    assert (known(meter).prefill_tokens_per_s, known(meter).prefill_is_floor) == (pytest.approx(1_000), True)


def test_full_steps_measure_capacity_and_a_quiet_hour_does_not_forget_it() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for _ in range(20):
        replica.prefill(9_000, 1.0, backlog_tokens=20_000)
    for _ in range(300):
        replica.prefill(1_000, 1.0, backlog_tokens=100)
    assert (known(meter).prefill_tokens_per_s, known(meter).prefill_is_floor) == (pytest.approx(9_000), False)


def test_slower_prompts_show_within_minutes_of_work() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for tokens in (*[9_000] * 60, *[3_000] * 300):
        replica.prefill(tokens, 1.0, backlog_tokens=20_000)
    assert known(meter).prefill_tokens_per_s == pytest.approx(3_000, rel=0.1)


def test_how_steps_grow_with_the_batch_is_seen_where_batches_differ() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for batch in (2, 8, 16, 32) * 10:
        replica.decode(batch, step_s=0.02 + 0.0005 * (batch - 1), seconds=2.0)
    assert known(meter).decode_alone_s == pytest.approx(0.02, rel=0.02)
    assert known(meter).decode_sequences == pytest.approx(14.5, rel=0.1)


def test_one_batch_tells_no_slope() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for _ in range(10):
        replica.decode(1, step_s=0.02, seconds=2.0)
    speed = known(meter)
    assert speed.decode_alone_s is None
    assert speed.decode_tokens_per_s == pytest.approx(50)


def test_time_that_prompts_took_is_no_part_of_a_step() -> None:
    meter = SpeedMeter()
    replica = Busy(meter)
    for _ in range(10):
        replica.decode(10, step_s=0.02, seconds=4.0, blocked_s=2.0)
    assert known(meter).decode_tokens_per_s == pytest.approx(500)


def test_replicas_add_up_and_a_restart_is_no_step_back() -> None:
    meter = SpeedMeter()
    one, other = Busy(meter), Busy(meter, OTHER)
    one.prefill(8_000, 1.0, backlog_tokens=9_000)
    other.prefill(4_000, 1.0, backlog_tokens=9_000)
    assert known(meter).prefill_tokens_per_s == pytest.approx(6_000, rel=0.01)
    meter.observe(ONE, SpeedCounters())
    assert known(meter).prefill_tokens_per_s == pytest.approx(6_000, rel=0.01)
    meter.forget(OTHER)
    meter.observe(OTHER, SpeedCounters(prefill_tokens=10**6, prefill_busy_s=1.5))
    assert known(meter).prefill_tokens_per_s == pytest.approx(6_000, rel=0.01)
