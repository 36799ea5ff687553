"""Spans to an OTLP collector, by OpenTelemetry's own exporters: their retries, headers, certificates and variables.

What must not live here: queues (exporter.py), encoding a span (span.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from cluster.config.telemetry import TRACES_PATH, with_path
from cluster.core.errors import LongreachError
from services.tracing.settings import GRPC, TraceSettings
from services.tracing.span import Value, encode_request

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class NotTakenError(LongreachError):
    """The collector did not take spans, however often its exporter tried."""


class OtlpSink:
    """One collector."""

    def __init__(self, settings: TraceSettings, resource: Mapping[str, Value]) -> None:
        assert settings.endpoint is not None
        self._resource = resource
        self._exporter: _Encoded | HttpExporter
        if settings.protocol == GRPC:
            self._exporter = _Encoded(endpoint=settings.endpoint)
        else:
            # It would log each failure; over gRPC the same one is logged once.
            logging.getLogger(HttpExporter.__module__).setLevel(logging.CRITICAL)
            self._exporter = HttpExporter(endpoint=with_path(settings.endpoint, TRACES_PATH))

    def send(self, spans: Sequence[bytes]) -> None:
        """Send them, with the exporter's own retries, for ten seconds at most.

        Raises:
            NotTakenError: the collector did not take them.
        """
        raw = encode_request(spans, self._resource)
        if isinstance(self._exporter, HttpExporter):
            result = self._exporter._client.export(raw)  # noqa: SLF001 - tests/contract holds the seam
            if not result.success:
                raise NotTakenError(f"the collector did not take them: {result.error}")
        elif self._exporter.export([raw]) is not SpanExportResult.SUCCESS:  # type: ignore[list-item]
            raise NotTakenError("the collector did not take them: OpenTelemetry's log says why")

    def close(self) -> None:
        """End the connection."""
        self._exporter.shutdown()


class _Encoded(GrpcExporter):
    """Given one request that is encoded already."""

    def _translate_data(self, data: Sequence[Any]) -> Any:
        return data[0]

    def _initialize_channel_and_stub(self) -> None:
        own: Any = super()
        own._initialize_channel_and_stub()  # noqa: SLF001 - tests/contract holds the seam
        channel: Any = self._channel
        client: Any = SimpleNamespace(Export=channel.unary_unary(EXPORT))
        # Its own stub would encode a message.
        self._client = client
