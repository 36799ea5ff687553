"""Work, and boundaries that divide it."""

from __future__ import annotations

import pytest

from cluster.core.capacity.step import StepCost
from cluster.simulator.study.work import boundary, share_below, works
from cluster.simulator.trace import Trace, TraceRequest

COST = StepCost(base_s=0.0, weights_s=0.0, token_s=0.001, attention_s=0.0, context_token_s=0.0)


def trace(*requests: TraceRequest) -> Trace:
    return Trace(name="made", block_tokens=512, requests=requests)


def test_work_is_what_is_left_to_compute_and_every_token_of_the_answer() -> None:
    made = trace(
        TraceRequest(0.0, 1024, 100, (0, 1)), TraceRequest(1.0, 1024, 100, (0, 2)), TraceRequest(2.0, 512, 9, (0,))
    )
    seconds = sorted(work.seconds for work in works(made, COST, output_tokens=50))
    assert seconds == pytest.approx([0.001 + 0.009, 0.512 + 0.1, 1.024 + 0.1])


def test_a_request_counts_with_the_output_it_is_taken_to_ask_for() -> None:
    made = trace(TraceRequest(0.0, 100, 7), TraceRequest(0.0, 100, 700))
    assert [work.context_tokens for work in works(made, COST, output_tokens=50)] == [150, 800]


def test_attention_is_counted_for_what_is_computed() -> None:
    cost = StepCost(base_s=0.0, weights_s=0.0, token_s=0.0, attention_s=1.0, context_token_s=0.0)
    assert works(trace(TraceRequest(0.0, 3, 1)), cost, output_tokens=1)[0].seconds == 1 + 2 + 3


def test_a_boundary_divides_the_work() -> None:
    made = works(trace(*(TraceRequest(0.0, 1000 * at, 24) for at in range(1, 101))), COST, output_tokens=24)
    for share in (0.1, 0.25, 0.5, 0.9):
        limit = boundary(made, share)
        assert limit % 512 == 0
        assert share <= share_below(made, limit) <= share + 0.03
    assert share_below(made, boundary(made, 1.0)) == 1.0


def test_no_requests_have_no_work() -> None:
    assert share_below([], 4096) == 0.0
    assert boundary([], 0.5) == 512
