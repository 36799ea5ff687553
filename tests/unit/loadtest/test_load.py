from __future__ import annotations

import json
import math

import pytest

from loadtest.bench.load import LoadFailedError, parse_result

RESULT = {
    "seconds": 1.0,
    "good": 10,
    "bad": 1,
    "incomplete": 0,
    "cut": 1,
    "chunks": 100,
    "messages": 0,
    "requests_s": 10.0,
    "chunks_s": 100.0,
    "ttft_us": {"p50": 1500.0, "p99": 2000.0, "max": 2500.0},
    "chunk_us": {"p50": 10.0, "p99": 20.0, "max": 30.0},
    "request_us": None,
    "status": {"200": 10, "502": 1},
}


def test_a_result_is_read_in_milliseconds() -> None:
    result = parse_result(json.dumps(RESULT))
    assert (result.good, result.bad, result.status) == (10, 1, {200: 10, 502: 1})
    assert (result.ttft.p50_ms, result.ttft.p99_ms, result.ttft.max_ms) == (1.5, 2.0, 2.5)
    assert result.chunk.max_ms == 0.03
    assert math.isnan(result.request.p50_ms)


@pytest.mark.parametrize("text", ["", "Segmentation fault", "[]", "{}", json.dumps(RESULT | {"status": 3})])
def test_anything_else_is_a_fault(text: str) -> None:
    with pytest.raises(LoadFailedError):
        parse_result(text)
