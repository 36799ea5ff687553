"""A snapshot of the gateway's metrics as OpenTelemetry has them: cumulative sums, gauges, histograms.

Names are Prometheus's without `_total`, which collectors add again. What must not live here: sending (metrics_push.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from services.gateway.exposition import Snapshot
from services.gateway.metric_kinds import HistogramSpec, Labels
from services.gateway.metric_specs import COUNTERS, GAUGES, HISTOGRAMS

CUMULATIVE = AggregationTemporality.CUMULATIVE
SCOPE = InstrumentationScope("longreach")


def metrics_data(snapshot: Snapshot, resource: Mapping[str, str], *, begun_ns: int, now_ns: int) -> MetricsData:
    """Everything in a snapshot that has a value.

    Args:
        snapshot: of one gateway process.
        resource: attributes of that process.
        begun_ns: since the epoch, when it began to count.
        now_ns: since the epoch, when the snapshot was taken.
    """
    metrics = list(_metrics(snapshot, begun_ns, now_ns))
    scopes = [ScopeMetrics(scope=SCOPE, metrics=metrics, schema_url="")]
    of_process = ResourceMetrics(resource=Resource(dict(resource)), scope_metrics=scopes, schema_url="")
    return MetricsData(resource_metrics=[of_process])


def _metrics(snapshot: Snapshot, begun_ns: int, now_ns: int) -> Iterator[Metric]:
    for counter in COUNTERS:
        if counted := snapshot.counters.get(counter.name):
            points = _numbers(counter.labels, counted, begun_ns, now_ns)
            total = Sum(data_points=points, aggregation_temporality=CUMULATIVE, is_monotonic=True)
            yield Metric(name=counter.name, description=counter.help, unit=counter.unit.value, data=total)
    for gauge in GAUGES:
        if standing := snapshot.gauges.get(gauge.name):
            points = _numbers(gauge.labels, standing, begun_ns, now_ns)
            yield Metric(name=gauge.name, description=gauge.help, unit=gauge.unit.value, data=Gauge(data_points=points))
    for histogram in HISTOGRAMS:
        if tallies := snapshot.histograms.get(histogram.name):
            buckets = [_buckets(histogram, labels, tally, begun_ns, now_ns) for labels, tally in tallies.items()]
            data = Histogram(data_points=buckets, aggregation_temporality=CUMULATIVE)
            yield Metric(name=histogram.name, description=histogram.help, unit=histogram.unit.value, data=data)


def _numbers(names: Labels, series: Mapping[Labels, float], begun_ns: int, now_ns: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(
            attributes=dict(zip(names, labels, strict=True)),
            start_time_unix_nano=begun_ns,
            time_unix_nano=now_ns,
            value=value,
        )
        for labels, value in series.items()
    ]


def _buckets(spec: HistogramSpec, labels: Labels, tally: list[float], begun_ns: int, now_ns: int) -> HistogramDataPoint:
    counts = [int(count) for count in tally[:-1]]
    return HistogramDataPoint(
        attributes=dict(zip(spec.labels, labels, strict=True)),
        start_time_unix_nano=begun_ns,
        time_unix_nano=now_ns,
        count=sum(counts),
        sum=tally[-1],
        bucket_counts=counts,
        explicit_bounds=spec.buckets,
        # Not kept: optional in OTLP, which the SDK's type does not say.
        min=cast("float", None),
        max=cast("float", None),
    )
