"""A trace over a day: what comes, when, and what is refused."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces import Day, day_of, over_a_day, rate_per_s
from cluster.simulator.traces.day import bent_s


def plain(count: int = 100, gap_s: float = 3.0) -> Trace:
    requests = tuple(
        TraceRequest(gap_s * at + 7.0, 1000 + at, at + 1, (0, at + 1), session=at % 5) for at in range(count)
    )
    return Trace(name="plain", block_tokens=512, requests=requests)


@given(share=st.floats(0, 1), swing=st.floats(0, 0.99), day_s=st.floats(1.0, 700_000.0))
def test_the_bent_clock_solves_keplers_equation_within_the_day(share: float, swing: float, day_s: float) -> None:
    at_s = bent_s(share * day_s, day_s, swing)
    assert -1e-6 <= at_s <= day_s * (1 + 1e-9)
    turn = 2 * pi * at_s / day_s
    assert turn - swing * sin(turn) == pytest.approx(2 * pi * share, abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.floats(0, 0.99))
def test_the_bent_clock_keeps_the_order(shares: list[float], swing: float) -> None:
    found = [bent_s(share * 3600.0, 3600.0, swing) for share in sorted(shares)]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(found))


def test_a_day_has_the_mean_rate_and_swings_as_far_as_it_should() -> None:
    trace = over_a_day(plain(), Day(hours=2.0, swing=0.7))
    assert trace.name == "plain+day"
    assert len(trace.requests) == pytest.approx(7200.0 * rate_per_s(plain()), rel=0.01)
    arrivals = [request.arrival_s for request in trace.requests]
    assert arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] < arrivals[-1] < 7200.0
    tenths = Counter(int(arrival_s // 720.0) for arrival_s in arrivals)
    mean = len(arrivals) / 10
    assert max(tenths.values()) == max(tenths[4], tenths[5]) == pytest.approx(1.69 * mean, rel=0.05)
    assert min(tenths.values()) == min(tenths[0], tenths[9]) == pytest.approx(0.35 * mean, rel=0.15)


def test_a_days_requests_are_the_traces_own_again_and_again() -> None:
    own = plain()
    trace = over_a_day(own, Day(hours=0.2))
    for place, request in enumerate(trace.requests):
        copy, original = place // len(own.requests), own.requests[place % len(own.requests)]
        assert (request.prompt_tokens, request.output_tokens) == (original.prompt_tokens, original.output_tokens)
        assert len(request.blocks) == len(original.blocks)
        # Within a copy prefixes are shared as in the trace, between copies nothing is.
        assert request.blocks[0] == trace.requests[copy * len(own.requests)].blocks[0]
    copies = [
        {block for one in trace.requests[begin : begin + 100] for block in one.blocks}
        for begin in range(0, len(trace.requests), 100)
    ]
    assert len(copies) == 3
    assert sum(map(len, copies)) == len(set().union(*copies))
    assert len({request.session for request in trace.requests}) == 5 * len(copies)


def test_a_day_that_is_shorter_than_the_trace_has_its_beginning() -> None:
    trace = over_a_day(plain(), Day(hours=150 / 3600, swing=0.0))
    assert [request.prompt_tokens for request in trace.requests] == list(range(1000, 1050))
    assert [request.arrival_s for request in trace.requests] == pytest.approx([3.0 * at for at in range(50)])


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("day", Day(hours=24.0, swing=0.7)),
        ("day=4", Day(hours=4.0)),
        ("swing=0.2,day=1.5", Day(hours=1.5, swing=0.2)),
    ],
)
def test_shapes_are_read(text: str, day: Day) -> None:
    assert day_of(text) == day


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("week", "no shape"),
        ("day=4;swing=1", "no number"),
        ("day,swing", "no shape"),
        ("day=", "no number"),
        ("day=0", "over 0"),
        ("day=nan", "over 0"),
        ("day=200", "at most 168"),
        ("day=4,swing=1", "from 0 to 0.99"),
    ],
)
def test_other_shapes_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        day_of(text)


def test_a_day_needs_a_rate_and_room() -> None:
    with pytest.raises(ValueError, match="no rate"):
        over_a_day(plain(1), Day())
    with pytest.raises(ValueError, match="at most 5,000,000"):
        over_a_day(plain(gap_s=0.001), Day())
