"""OpenTelemetry's exporters take spans that are encoded already; a new version that does not is found here."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.config import TracesSection
from cluster.environment import read_environment
from services.tracing.otlp_sink import NotTakenError, OtlpSink
from services.tracing.settings import trace_settings
from services.tracing.span import Kind, Span, encode_span
from tests.collector import collecting, collecting_http
from tests.spans import Seen, seen_in

SPANS = [encode_span(Span("chat demo", Kind.SERVER, 7, 8, None, 1, 2, {"a": 1}))]


def sink(endpoint: str, protocol: str) -> OtlpSink:
    section = TracesSection(endpoint=endpoint, protocol=protocol)  # type: ignore[arg-type]
    return OtlpSink(trace_settings(section, read_environment({}), "c"), {"service.name": "gateway"})


def assert_it_is_the_span(seen: list[Seen]) -> None:
    (span,) = seen
    assert (span.name, span.service, span.attributes) == ("chat demo", "gateway", {"a": 1})


async def test_grpc() -> None:
    async with collecting() as (collector, port):
        one = sink(f"http://127.0.0.1:{port}", "grpc")
        await asyncio.to_thread(one.send, SPANS)
        one.close()
        assert_it_is_the_span(collector.spans)


async def test_http() -> None:
    async with collecting_http("/v1/traces") as (bodies, endpoint):
        one = sink(endpoint, "http/protobuf")
        await asyncio.to_thread(one.send, SPANS)
        one.close()
    assert_it_is_the_span(seen_in(ExportTraceServiceRequest.FromString(bodies[0])))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_collector_that_is_not_there_is_said(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    one = sink("http://127.0.0.1:9", protocol)
    with pytest.raises(NotTakenError):
        await asyncio.to_thread(one.send, SPANS)
    one.close()
