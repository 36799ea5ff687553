"""What engines tell of an answer: anything that cannot be is no report."""

from __future__ import annotations

import json

import pytest

from cluster.core.outcome import MAX_S, ReplicaOutcome, decode_outcome, encode_outcome

GOOD = ReplicaOutcome(10, 5, 2, 0.1, 0.2, 0.3)


def test_what_is_written_is_read() -> None:
    assert decode_outcome(encode_outcome(GOOD)) == GOOD


@pytest.mark.parametrize("field", ["queue_s", "prefill_s", "decode_s"])
@pytest.mark.parametrize("value", [-1, 1e12, MAX_S * 1.001, float("inf"), "3", None, True])
def test_no_request_takes_so_long(field: str, value: object) -> None:
    assert decode_outcome(json.dumps({**GOOD._asdict(), field: value})) is None
