"""What gateways tell each other about boundaries survives the store, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.core.boundary import Band, BoundaryRecord, GatewaySeen, LengthsSeen, PairSeen, of_pair
from cluster.core.boundary.lengths import HIGHEST_BAND
from cluster.core.lease import PoolName

SHORT, LONG = PoolName("short"), PoolName("long")
RECORD = BoundaryRecord(
    smaller=SHORT, larger=LONG, tokens=700, limit_tokens=1000, reason="because", written_s=1000.0, moved_s=940.0
)
SEEN = LengthsSeen(250.0, [Band(-4, 2.0, 300.0, 20.0), Band(3, 0.1, 1500.0, 10.0)])
TOLD = GatewaySeen(gateway="a", pairs={SHORT: PairSeen(limit_tokens=1000, seen=SEEN)})


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, moved_s=None)])
def test_a_record_survives_the_store(record: BoundaryRecord) -> None:
    assert BoundaryRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize("broken", [{}, {**RECORD.to_dict(), "tokens": "many"}, {**RECORD.to_dict(), "moved_s": []}])
def test_anything_else_is_no_record(broken: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        BoundaryRecord.from_dict(broken)


def test_what_a_gateway_has_seen_survives_the_store() -> None:
    assert GatewaySeen.from_dict(json.loads(json.dumps(TOLD.to_dict()))) == TOLD


@pytest.mark.parametrize(
    "band", [[0, 1.0, 1.0], [0, -1.0, 1.0, 1.0], [0, float("nan"), 1.0, 1.0], [HIGHEST_BAND + 1, 1.0, 1.0, 1.0], ["x"]]
)
def test_bands_that_count_nothing_are_refused(band: list[object]) -> None:
    told = TOLD.to_dict()
    told["pairs"][SHORT]["bands"] = [band]
    with pytest.raises((TypeError, ValueError)):
        GatewaySeen.from_dict(told)


def test_a_gateway_that_knows_another_limit_counts_other_bands() -> None:
    other = GatewaySeen(gateway="b", pairs={SHORT: PairSeen(limit_tokens=900, seen=SEEN)})
    assert of_pair([TOLD, other, GatewaySeen(gateway="c")], SHORT, 1000) == [SEEN]
    assert of_pair([TOLD], LONG, 1000) == []
