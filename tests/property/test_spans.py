"""Encoded spans are what OpenTelemetry's own messages read, and say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from services.tracing.span import Kind, Span, encode_request, encode_span

TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)
VALUES = (
    TEXTS
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.lists(TEXTS, max_size=3).map(tuple)
)
SPANS = st.builds(
    Span,
    name=TEXTS,
    kind=st.sampled_from(Kind),
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    parent_id=st.none() | st.integers(1, 2**64 - 1),
    start_ns=st.integers(0, 2**63),
    end_ns=st.integers(0, 2**63),
    attributes=st.dictionaries(TEXTS, VALUES, max_size=5),
    error=st.none() | TEXTS,
    state=st.sampled_from(["", "a=b"]),
    is_sampled=st.booleans(),
)


def plain(value: Any) -> Any:
    """An attribute's value, out of its message."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return tuple(plain(one) for one in value.array_value.values)
    return getattr(value, which)


@given(st.lists(SPANS, max_size=4))
def test_every_span_is_read_as_it_was(spans: list[Span]) -> None:
    raw = encode_request(map(encode_span, spans), {"service.name": "gateway"})
    (of_resource,) = ExportTraceServiceRequest.FromString(raw).resource_spans
    assert {one.key: plain(one.value) for one in of_resource.resource.attributes} == {"service.name": "gateway"}
    (of_scope,) = of_resource.scope_spans
    assert of_scope.scope.name == "longreach"
    assert len(of_scope.spans) == len(spans)
    for span, read in zip(spans, of_scope.spans, strict=True):
        assert (read.name, read.kind, read.trace_state) == (span.name, span.kind, span.state)
        assert (int.from_bytes(read.trace_id), int.from_bytes(read.span_id)) == (span.trace_id, span.span_id)
        assert read.parent_span_id == (b"" if span.parent_id is None else span.parent_id.to_bytes(8))
        assert (read.start_time_unix_nano, read.end_time_unix_nano) == (span.start_ns, max(span.start_ns, span.end_ns))
        assert {one.key: plain(one.value) for one in read.attributes} == span.attributes
        assert read.status.code == (Status.STATUS_CODE_UNSET if span.error is None else Status.STATUS_CODE_ERROR)
        assert read.status.message == (span.error or "")
        assert bool(read.flags & 1) == span.is_sampled
        assert bool(read.flags & 0x200) == (span.kind is Kind.SERVER and span.parent_id is not None)


def test_text_that_is_no_unicode_is_sent_as_escapes() -> None:
    span = Span("x", Kind.SERVER, 1, 1, None, 0, 0, {"a": "\ud800"})
    raw = encode_request([encode_span(span)], {})
    assert ExportTraceServiceRequest.FromString(raw).resource_spans[0].scope_spans[0].spans[0].name == "x"
