"""What is kept of decisions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.core.autoscaling.demand import Arrivals, PoolDemand, PoolSpeed
from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.autoscaling.target import Bound, Decision
from cluster.core.lease import PoolName

SHORT = PoolName("short")
SPEED = PoolSpeed(
    prefill_tokens_per_s=900, decode_tokens_per_s=80, decode_sequences=2, kv_tokens=7, max_running=6, decode_alone_s=0.1
)
DEMAND = PoolDemand(
    pool=SHORT, now_s=5, ready=1, starting=1, held=2, arrivals=Arrivals(requests=9), speed=SPEED, startup_s=30.0
)
DECISION = Decision(
    pool=SHORT, at_s=5, replicas=2, current=2, needed_now=1.5, needed_ahead=1.75, bound=Bound.PREFILL, reason="because"
)
RECORD = AutoscaleRecord(
    written_s=1000.0, min_replicas=0, max_replicas=4, pinned=None, demand=DEMAND, decision=DECISION, ordered_s=990.0
)


@pytest.mark.parametrize(
    "record", [RECORD, replace(RECORD, pinned=2, ordered_s=None), replace(RECORD, demand=replace(DEMAND, speed=None))]
)
def test_it_survives_the_store(record: AutoscaleRecord) -> None:
    assert AutoscaleRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_past_decision_survives_the_store() -> None:
    past = PastDecision(written_s=3.5, decision=DECISION)
    assert PastDecision.from_dict(json.loads(json.dumps(past.to_dict()))) == past


@pytest.mark.parametrize("broken", [{}, {**RECORD.to_dict(), "written_s": "soon"}, {**RECORD.to_dict(), "demand": 3}])
def test_anything_else_is_no_record(broken: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        AutoscaleRecord.from_dict(broken)


def test_when_the_next_replica_serves() -> None:
    assert RECORD.starts_in_s(1000.0) == 20.0
    assert RECORD.starts_in_s(2000.0) == 0.0
    # Nothing is on its way: a whole start.
    assert replace(RECORD, ordered_s=None).starts_in_s(1000.0) == 30.0
    assert replace(RECORD, demand=replace(DEMAND, startup_s=None)).starts_in_s(1000.0) is None
