"""Spans to an OTLP collector, by OpenTelemetry's own exporters: their retries, headers, certificates and variables.

What must not live here: queues (exporter.py), encoding a span (span.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult

from cluster.core.errors import LongreachError
from services.tracing.settings import GRPC, TraceSettings
from services.tracing.span import Value, encode_request

SCOPE = "longreach"
HTTP_PATH = "/v1/traces"


class NotTakenError(LongreachError):
    """The collector did not take spans; its exporter has tried again and logged why."""


class OtlpSink:
    """One collector."""

    def __init__(self, settings: TraceSettings, resource: Mapping[str, Value]) -> None:
        assert settings.endpoint is not None
        self._resource = resource
        self._exporter: _Encoded | HttpExporter
        if settings.protocol == GRPC:
            self._exporter = _Encoded(endpoint=settings.endpoint)
        else:
            url = settings.endpoint.rstrip("/")
            self._exporter = HttpExporter(endpoint=url if url.endswith(HTTP_PATH) else url + HTTP_PATH)

    def send(self, spans: Sequence[bytes]) -> None:
        """Send them, with the exporter's own retries, for ten seconds at most.

        Raises:
            NotTakenError: the collector did not take them.
        """
        raw = encode_request(spans, self._resource, SCOPE)
        if isinstance(self._exporter, HttpExporter):
            is_taken = self._exporter._client.export(raw).success  # noqa: SLF001 - tests/contract holds the seam
        else:
            result = self._exporter.export([ExportTraceServiceRequest.FromString(raw)])  # type: ignore[list-item]
            is_taken = result is SpanExportResult.SUCCESS
        if not is_taken:
            raise NotTakenError("the collector did not take them")

    def close(self) -> None:
        """End the connection."""
        self._exporter.shutdown()


class _Encoded(GrpcExporter):
    """Given one message that is encoded already."""

    def _translate_data(self, data: Sequence[Any]) -> ExportTraceServiceRequest:
        message: ExportTraceServiceRequest = data[0]
        return message
