"""Several copies of a trace at once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces import overlaid, rate_per_s


def plain(count: int = 40, gap_s: float = 3.0) -> Trace:
    requests = tuple(
        TraceRequest(gap_s * at + 7.0, 1000 + at, at + 1, (0, at + 1), session=at % 5, tenant=at % 2)
        for at in range(count)
    )
    return Trace(name="plain", block_tokens=512, requests=requests)


@given(st.integers(1, 20))
def test_every_copy_has_every_request_once_and_the_rate_adds_up(copies: int) -> None:
    trace = overlaid(plain(), copies)
    arrivals = [request.arrival_s for request in trace.requests]
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] <= arrivals[-1] < 120.0
    assert Counter(one.prompt_tokens for one in trace.requests) == dict.fromkeys(range(1000, 1040), copies)
    assert rate_per_s(trace) == pytest.approx(copies * rate_per_s(plain()), rel=0.05)


def test_copies_share_no_prefix_and_no_session_but_tenants() -> None:
    trace = overlaid(plain(), 3)
    roots = Counter(request.blocks[0] for request in trace.requests)
    assert sorted(roots.values()) == [40, 40, 40]
    assert len({block for request in trace.requests for block in request.blocks}) == 3 * 41
    assert len({request.session for request in trace.requests}) == 15
    assert {request.tenant for request in trace.requests} == {0, 1}


def test_each_copy_begins_elsewhere() -> None:
    trace = overlaid(plain(), 4)
    assert [request.prompt_tokens for request in trace.requests[:4]] == [1000, 1010, 1020, 1030]
    assert trace.name == "plain-x4"


def test_one_copy_is_the_trace_from_zero_on() -> None:
    own = plain()
    assert [request[1:] for request in overlaid(own, 1).requests] == [request[1:] for request in own.requests]


@pytest.mark.parametrize(("copies", "words"), [(0, "1 or more"), (200_000, "at most 5,000,000")])
def test_none_and_too_many_are_refused(copies: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        overlaid(plain(), copies)
