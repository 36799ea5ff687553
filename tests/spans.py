"""A sink in memory, and spans as tests look at them.

What must not live here: tests.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from services.tracing.span import encode_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One span, whoever made it."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    is_error: bool
    service: str = ""


def seen_in(message: ExportTraceServiceRequest) -> list[Seen]:
    """Every span of a message."""
    return [
        _seen(span, {one.key: _plain(one.value) for one in of_resource.resource.attributes}.get("service.name", ""))
        for of_resource in message.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]


class MemorySink:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Seen] = []

    def send(self, spans: Sequence[bytes]) -> None:
        found = seen_in(ExportTraceServiceRequest.FromString(encode_request(spans, {"service.name": "test"})))
        with self._lock:
            self._spans += found

    def close(self) -> None:
        pass

    @property
    def spans(self) -> list[Seen]:
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Seen]:
        """Those with this name, in the order of their begin."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_ns)


def _seen(span: SpanMessage, service: Any) -> Seen:
    return Seen(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={one.key: _plain(one.value) for one in span.attributes},
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        service=str(service),
    )


def _plain(value: Any) -> Any:
    which = value.WhichOneof("value")
    return None if which is None else getattr(value, which)
