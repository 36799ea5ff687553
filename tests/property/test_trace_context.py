"""W3C Trace Context: what is written is read, what breaks the format is nobody's, sampling keeps its part."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.trace_context import (
    STATE_CHARS_MAX,
    TraceContext,
    is_sampled,
    new_context,
    parse_traceparent,
    rejected_below,
    traceparent,
)

TRACE_IDS, SPAN_IDS = st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)
CONTEXTS = st.builds(TraceContext, TRACE_IDS, SPAN_IDS, st.booleans(), st.sampled_from(["", "a=b,c=d"]), st.booleans())


@given(CONTEXTS)
def test_what_is_written_is_read(context: TraceContext) -> None:
    told = traceparent(f"{context.trace_id:032x}", context.span_id, context.flags)
    assert parse_traceparent(told, context.state) == context


@given(st.text(max_size=60))
def test_any_text_is_a_context_or_none(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or (0 < found.trace_id < 2**128 and 0 < found.span_id < 2**64)


GOOD = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        (f"00-{GOOD}-01", True),
        (f"00-{GOOD}-00", True),
        (f"cc-{GOOD}-01-what-the-future-brings", True),
        (f"00-{GOOD}-01-more", False),
        (f"ff-{GOOD}-01", False),
        (f"00-{GOOD.upper()}-01", False),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", False),
        (f"00-{GOOD}", False),
        (f"00-{GOOD}-01\r\nx: y", False),
    ],
)
def test_the_format(text: str, is_good: bool) -> None:
    assert (parse_traceparent(text) is not None) == is_good


def test_a_state_that_could_not_be_a_header_is_dropped() -> None:
    for state in ("a=b\r\nc", "é", "x" * (STATE_CHARS_MAX + 1)):
        found = parse_traceparent(f"00-{GOOD}-01", state)
        assert found is not None
        assert not found.state


@given(CONTEXTS, st.integers(), st.floats(0, 1))
def test_a_callers_trace_and_decision_go_on(parent: TraceContext, seed: int, ratio: float) -> None:
    found = new_context(parent, random.Random(seed), rejected_below(ratio))
    assert found == parent._replace(span_id=found.span_id)
    assert found.span_id


@given(TRACE_IDS, st.floats(0, 1), st.floats(0, 1))
def test_who_keeps_more_keeps_what_others_keep(trace_id: int, one: float, other: float) -> None:
    less, more = rejected_below(min(one, other)), rejected_below(max(one, other))
    assert not is_sampled(trace_id, less) or is_sampled(trace_id, more)
    assert is_sampled(trace_id, rejected_below(1.0))
    assert not is_sampled(trace_id, rejected_below(0.0))


def test_a_ratio_is_about_what_is_kept() -> None:
    rng = random.Random(7)
    kept = sum(new_context(None, rng, rejected_below(0.1)).is_sampled for _ in range(20_000))
    assert 1_800 < kept < 2_200
