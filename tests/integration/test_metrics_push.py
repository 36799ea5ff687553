"""Metrics that are pushed say what `/metrics` says, to a collector that takes them; one that does not costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from cluster.config import MetricsSection
from services.api.snapshot import snapshot_of
from services.gateway.metrics_push import MetricsPush, exporter_of
from tests.collector import collecting_http
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Running, leases_of, running

pytestmark = pytest.mark.integration

MOVING = ("longreach_cpu_seconds", "longreach_resident_memory", "longreach_directory_age")
"""What has moved on between two looks."""
UNTOLD = ("longreach_cached_tokens_error",)
"""Prometheus's text has neither count nor sum of a histogram that may be negative."""
Point = tuple[str, frozenset[tuple[str, str]]]


class Collector(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.requests.append(request)
        return metrics_service_pb2.ExportMetricsServiceResponse()


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector, server = Collector(), grpc.aio.server()
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield collector, f"http://127.0.0.1:{port}"
    await server.stop(0)


def push_of(gateway: Running, section: MetricsSection) -> MetricsPush:
    return MetricsPush(
        exporter_of(section), lambda: snapshot_of(gateway.gateway), every_s=1, resource={"service.name": "gateway"}
    )


def pushed(request: Any) -> dict[Point, float]:
    """By Prometheus's names: histograms as their counts and sums."""
    found: dict[Point, float] = {}
    (of_process,) = request.resource_metrics
    assert {one.key: one.value.string_value for one in of_process.resource.attributes}["service.name"] == "gateway"
    for metric in of_process.scope_metrics[0].metrics:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = frozenset((one.key, one.value.string_value) for one in point.attributes)
            if kind == "histogram":
                assert not point.HasField("min")
                assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                found[f"{metric.name}_count", labels] = point.count
                found[f"{metric.name}_sum", labels] = point.sum
            else:
                assert kind == "gauge" or metric.sum.is_monotonic
                value = getattr(point, point.WhichOneof("value"))
                found[f"{metric.name}_total" if kind == "sum" else metric.name, labels] = value
    return found


def scraped(text: str) -> dict[Point, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def still(values: dict[Point, float]) -> dict[Point, float]:
    return {point: value for point, value in values.items() if not point[0].startswith(MOVING + UNTOLD)}


async def test_what_is_pushed_is_what_is_scraped() -> None:
    engine = FakeEngine(tokens=7, cached_tokens=2)
    async with serve(engine), running(store=leases_of(short=engine)) as gateway, collecting() as (collector, endpoint):
        for _ in range(3):
            assert (await gateway.chat(stream=True)).status_code == 200
        push = push_of(gateway, MetricsSection(endpoint=endpoint))
        await push.push()
        there = still(scraped(await gateway.metrics()))
        await push.close()
    sent = still(pushed(collector.requests[0]))
    assert sent == there
    assert sent["longreach_tokens_total", frozenset({("kind", "output"), ("pool", "short"), ("model", "tiny")})] == 21


async def test_over_http() -> None:
    async with running() as gateway, collecting_http("/v1/metrics") as (bodies, endpoint):
        push = push_of(gateway, MetricsSection(endpoint=endpoint, protocol="http/protobuf"))
        await push.push()
        await push.close()
    assert pushed(metrics_service_pb2.ExportMetricsServiceRequest.FromString(bodies[0]))


async def test_a_collector_that_is_not_there_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    async with running() as gateway:
        push = push_of(gateway, MetricsSection(endpoint="http://127.0.0.1:9"))
        for _ in range(3):
            await push.push()
        follows = asyncio.create_task(push.follow())
        await asyncio.sleep(0)
        follows.cancel()
        await push.close()
    ours = [record for record in caplog.records if record.name == "services.gateway.metrics_push"]
    assert len(ours) == 1
