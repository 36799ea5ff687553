"""Traces made of others."""

from __future__ import annotations

import pytest

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces import Tail, builtin_fits, faster, first, generate, with_tail


def plain(count: int = 200) -> Trace:
    requests = tuple(TraceRequest(float(at), 1000, 5 * at + 1, (0, at + 1)) for at in range(count))
    return Trace(name="plain", block_tokens=512, requests=requests)


def test_a_faster_trace_has_the_same_requests_sooner() -> None:
    doubled = faster(plain(), 2.0)
    assert doubled.requests[-1].arrival_s == 99.5
    assert [request[1:] for request in doubled.requests] == [request[1:] for request in plain().requests]
    with pytest.raises(ValueError, match="0 times"):
        faster(plain(), 0)


def test_first_takes_the_first() -> None:
    assert len(first(plain(), 3).requests) == 3


def test_a_tail_adds_its_share_within_its_lengths_and_shares_no_prefix() -> None:
    tail = Tail(share=0.1)
    trace = with_tail(plain(), tail, seed=4)
    added = [request for request in trace.requests if request.prompt_tokens > 1000]
    assert len(added) == 20
    assert trace.name == "plain+tail"
    assert [request.arrival_s for request in trace.requests] == sorted(r.arrival_s for r in trace.requests)
    assert all(tail.shortest_tokens <= request.prompt_tokens for request in added)
    assert all(request.prompt_tokens + request.output_tokens <= tail.longest_tokens for request in added)
    assert all(len(request.blocks) == -(-request.prompt_tokens // 512) for request in added)
    blocks = [block for request in added for block in request.blocks]
    assert len(set(blocks)) == len(blocks)
    assert not set(blocks) & {block for request in plain().requests for block in request.blocks}


def test_a_tail_is_log_uniform() -> None:
    trace = with_tail(plain(4000), Tail(share=1.0, output_tokens_max=0), seed=1)
    below = sum(65_536 <= request.prompt_tokens < 131_072 for request in trace.requests)
    assert below / 4000 == pytest.approx(0.5, abs=0.03)


def test_a_tail_of_a_trace_without_blocks_has_none() -> None:
    trace = with_tail(generate(builtin_fits()["azure-code"], requests=200, seed=1), Tail(), seed=1)
    assert not any(request.blocks for request in trace.requests)


def test_the_same_seed_makes_the_same_tail() -> None:
    assert with_tail(plain(), Tail(), seed=2) == with_tail(plain(), Tail(), seed=2)
    assert with_tail(plain(), Tail(), seed=2) != with_tail(plain(), Tail(), seed=3)


@pytest.mark.parametrize("tail", [Tail(share=2.0), Tail(shortest_tokens=300_000), Tail(shortest_tokens=0)])
def test_a_tail_that_contradicts_itself_is_refused(tail: Tail) -> None:
    with pytest.raises(ValueError, match="a tail from"):
        with_tail(plain(), tail, seed=1)
