"""Pushes the gateway's metrics to an OTLP collector, for those who do not scrape.

What must not live here: what is counted, its OTLP form (otlp_metrics.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

from cluster.config import MetricsSection
from cluster.config.telemetry import METRICS_PATH, with_path
from cluster.tasks import in_own_thread
from services.gateway.exposition import Snapshot
from services.gateway.otlp_metrics import metrics_data

logger = logging.getLogger(__name__)

EXPORT_MS = 10_000
"""One push, its exporter's tries together."""
WARN_EVERY = 100
"""Of failed pushes: the first, and then each hundredth, is logged."""


class MetricsPush:
    """One gateway process's metrics, pushed again and again."""

    def __init__(
        self,
        exporter: MetricExporter,
        snapshot: Callable[[], Snapshot],
        *,
        every_s: float,
        resource: Mapping[str, str],
    ) -> None:
        """Nothing is pushed yet.

        Args:
            exporter: used by one thread at a time.
            snapshot: the metrics now; called in the event loop.
            every_s: between two pushes.
            resource: attributes of this process.
        """
        self._exporter = exporter
        self._snapshot = snapshot
        self._every_s = every_s
        self._resource = resource
        self._begun_ns = time.time_ns()
        self._failures = 0

    async def follow(self) -> None:
        """Push until cancelled; a collector that is slow or gone costs the pushes it misses."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.push()

    async def push(self) -> None:
        """Push once; never raises for what the collector does."""
        data = metrics_data(self._snapshot(), self._resource, begun_ns=self._begun_ns, now_ns=time.time_ns())
        try:
            result = await in_own_thread(lambda: self._exporter.export(data, EXPORT_MS))
        except Exception:  # noqa: BLE001 - whatever a library raises: the next push is another try
            result = MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self._failures = 0
            return
        if self._failures % WARN_EVERY == 0:
            logger.warning("metrics were not taken by telemetry.metrics.endpoint")
        self._failures += 1

    async def close(self) -> None:
        """Let go of the connection, at once."""
        await in_own_thread(lambda: self._exporter.shutdown(0))


def exporter_of(section: MetricsSection) -> MetricExporter:
    """OpenTelemetry's exporter for the section's endpoint; its `OTEL_EXPORTER_OTLP_*` variables count."""
    assert section.endpoint is not None
    if section.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        return GrpcExporter(endpoint=section.endpoint)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

    return HttpExporter(endpoint=with_path(section.endpoint, METRICS_PATH))
