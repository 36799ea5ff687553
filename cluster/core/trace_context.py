"""Who a request belongs to in a distributed trace: W3C Trace Context, level 2 (https://www.w3.org/TR/trace-context-2).

What must not live here: spans (services/tracing), headers' transport.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
STATE_CHARS_MAX = 512
"""What W3C asks to pass on at least; a longer state is dropped, as it allows."""
_SAMPLED, _RANDOM = 0x01, 0x02
_ID_BITS, _TRACE_BITS = 64, 128
_RANDOMNESS = (1 << 56) - 1
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_INVALID_VERSION = "ff"
_FIRST_VERSION = "00"


class TraceContext(NamedTuple):
    """One span's place in its trace."""

    trace_id: int
    """128 bits, not zero."""
    span_id: int
    """64 bits, not zero."""
    is_sampled: bool
    state: str = ""
    """Vendors' own, passed on as it is."""
    is_random: bool = True
    """Who began the trace chose its id at random; passed on as it is."""

    @property
    def flags(self) -> int:
        """As the header has them."""
        return self.is_sampled | self.is_random << 1


def traceparent(trace_id: str, span_id: int, flags: int) -> str:
    """The header that names a span of a trace, whose id is in hexadecimal."""
    return f"00-{trace_id}-{span_id:016x}-{flags:02x}"


def parse_traceparent(text: str | None, state: str | None = None) -> TraceContext | None:
    """The context that a caller sent; None where it sent none, or one that breaks the format.

    Args:
        text: the header `traceparent`.
        state: the header `tracestate`.
    """
    found = None if text is None else _PARENT.fullmatch(text.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, further = found.groups()
    if version == _INVALID_VERSION or (version == _FIRST_VERSION and further):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    kept = state if state and len(state) <= STATE_CHARS_MAX and state.isascii() and state.isprintable() else ""
    bits = int(flags, 16)
    return TraceContext(int(trace_id, 16), int(span_id, 16), bool(bits & _SAMPLED), kept, bool(bits & _RANDOM))


def new_context(parent: TraceContext | None, rng: random.Random, threshold: int) -> TraceContext:
    """A span of ours: under its caller's, or the first of a new trace.

    The caller decides about sampling where there is one. Else the lowest 56 bits of the trace's id do, as
    OpenTelemetry's consistent probability sampling has it, so that other services with this ratio agree.

    Args:
        parent: of the caller.
        rng: for ids.
        threshold: `rejected_below` of the ratio of traces begun here that is kept.
    """
    span_id = rng.getrandbits(_ID_BITS) or 1
    if parent is not None:
        return parent._replace(span_id=span_id)
    trace_id = rng.getrandbits(_TRACE_BITS) or 1
    return TraceContext(trace_id, span_id, is_sampled(trace_id, threshold))


def rejected_below(ratio: float) -> int:
    """The threshold of a sampling ratio: traces whose random bits are below it are not kept.

    Source: OpenTelemetry specification, "TraceState: Probability Sampling", 56 bits of randomness.
    """
    return round((1 - ratio) * (_RANDOMNESS + 1))


def is_sampled(trace_id: int, threshold: int) -> bool:
    """Whether a trace is among the part that is kept.

    Args:
        trace_id: its id.
        threshold: `rejected_below` of the ratio.
    """
    return trace_id & _RANDOMNESS >= threshold
