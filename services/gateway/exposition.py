"""What the gateway's metrics are called, and how tallies of one or several workers become Prometheus text.

A label's values come from enums and the configuration, never from clients, so their number is bounded. What must not
live here: counting (metrics.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

LATENCY_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""From a cache hit's first token to the prefill of a million tokens."""
WAIT_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From no wait at all to beyond the default limit of a queue."""
DECISION_BUCKETS_S = (10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3)
"""Tens of microseconds are normal; what takes over 5 ms delays other streams."""
PROMPT_BUCKETS_TOKENS = (128, 512, 2_048, 8_192, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
"""The usual context limits, so that a histogram shows where pool boundaries could lie."""
ERROR_BUCKETS_TOKENS = (-16_384, -2_048, -129, -17, -1, 0, 16, 128, 2_048, 16_384, 131_072)
"""On both sides of zero; vLLM's KV block is 16 tokens on a GPU and 128 on a CPU."""

Labels = tuple[str, ...]
Summing = Callable[[Iterable[float]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSpec:
    """A number that only grows; `_total` is added to its name."""

    name: str
    help: str
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSpec:
    """Observations by size; a bucket counts what is at most its bound."""

    name: str
    help: str
    labels: Labels
    buckets: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSpec:
    """A number that goes up and down, and what several workers' numbers mean together."""

    name: str
    help: str
    labels: Labels
    together: Summing


def _oldest(ages_s: Iterable[float]) -> float:
    """-1, which means never, is older than any age."""
    known = list(ages_s)
    return -1.0 if min(known) < 0 else max(known)


REQUESTS = CounterSpec(
    name="longreach_requests", help="Requests by how they ended", labels=("route", "pool", "outcome")
)
ATTEMPTS = CounterSpec(
    name="longreach_attempts", help="Requests sent to endpoints, by result", labels=("pool", "result")
)
BROKEN = CounterSpec(name="longreach_broken_answers", help="Answers that broke off under way", labels=("pool", "kind"))
TOKENS = CounterSpec(
    name="longreach_tokens",
    help="Tokens as engines counted them; cached ones are prompt tokens that were not computed",
    labels=("kind", "pool", "model"),
)
TENANT_TOKENS = CounterSpec(
    name="longreach_tenant_tokens",
    help="The same by tenant; tenants that are not in the configuration are `other`",
    labels=("tenant", "kind"),
)
SPILLED = CounterSpec(
    name="longreach_spilled", help="Requests sent to a larger pool because theirs was saturated", labels=("from", "to")
)
REVISION_REQUESTS = CounterSpec(
    name="longreach_revision_requests",
    help="Answers by the revision of the replica and how they ended; replicas without a revision are not counted",
    labels=("pool", "revision", "outcome"),
)
REFUSED = CounterSpec(name="longreach_refused", help="Requests the gateway itself refused", labels=("reason",))
PROMPT_COUNTS = CounterSpec(name="longreach_prompt_count", help="How prompt lengths were found out", labels=("how",))
SPANS = CounterSpec(
    name="longreach_trace_spans",
    help="Spans by what became of them: exported, failed (the collector or file did not take them), dropped (too many "
    "waited for it); once for each place they go to",
    labels=("result",),
)
USAGE_DROPPED = CounterSpec(
    name="longreach_usage_dropped_records", help="Requests missing in the usage totals for lack of disk", labels=()
)
SECONDS = HistogramSpec(
    name="longreach_request_seconds",
    help="From a request's last byte in to its answer's last byte out",
    labels=("route", "pool"),
    buckets=LATENCY_BUCKETS_S,
)
FIRST_BYTE = HistogramSpec(
    name="longreach_first_byte_seconds",
    help="From a request's last byte in to its answer's first byte (time to first token of a stream)",
    labels=("route", "pool"),
    buckets=LATENCY_BUCKETS_S,
)
REVISION_FIRST_BYTE = HistogramSpec(
    name="longreach_revision_first_byte_seconds",
    help="The same by the revision of the replica, where it has one",
    labels=("pool", "revision"),
    buckets=LATENCY_BUCKETS_S,
)
PROMPT = HistogramSpec(
    name="longreach_prompt_tokens",
    help="Prompt length as the gateway counted it (upper bounds and estimates included)",
    labels=("pool",),
    buckets=PROMPT_BUCKETS_TOKENS,
)
ADMISSION_WAIT = HistogramSpec(
    name="longreach_admission_wait_seconds",
    help="Waiting in the gateway for a free slot",
    labels=("pool",),
    buckets=WAIT_BUCKETS_S,
)
DECISION = HistogramSpec(
    name="longreach_decision_seconds", help="One routing decision", labels=(), buckets=DECISION_BUCKETS_S
)
CACHED_ERROR = HistogramSpec(
    name="longreach_cached_tokens_error",
    help="Predicted minus actual cached tokens, by where the last of them was expected",
    labels=("tier",),
    buckets=ERROR_BUCKETS_TOKENS,
)
IN_FLIGHT = GaugeSpec(name="longreach_in_flight", help="Requests being served", labels=(), together=sum)
QUEUE = GaugeSpec(
    name="longreach_queue_length", help="Requests waiting for a free slot", labels=("priority",), together=sum
)
HELD = GaugeSpec(
    name="longreach_held_requests",
    help="Requests waiting in the gateway, by the smallest pool that holds them",
    labels=("pool",),
    together=sum,
)
AUTOSCALE_REPLICAS = GaugeSpec(
    name="longreach_autoscale_replicas",
    help="Replicas as autoscaling last saw and decided them; needed ones are fractions",
    labels=("pool", "kind"),
    together=max,
)
AUTOSCALE_STARTUP = GaugeSpec(
    name="longreach_autoscale_startup_seconds",
    help="From a replica's order to its first request, as measured",
    labels=("pool",),
    together=max,
)
AUTOSCALE_PINNED = GaugeSpec(
    name="longreach_autoscale_pinned", help="1 while an operator has pinned the number", labels=("pool",), together=max
)
AUTOSCALE_AGE = GaugeSpec(
    name="longreach_autoscale_age_seconds",
    help="Since the last decision; it is made several times a second",
    labels=("pool",),
    together=max,
)
BOUNDARY = GaugeSpec(
    name="longreach_boundary_tokens",
    help="Requests up to this length go to the pool first, longer ones to the next larger pool; where it follows the "
    "traffic",
    labels=("pool",),
    together=max,
)
ENDPOINTS = GaugeSpec(
    name="longreach_endpoints", help="Known endpoints by state", labels=("pool", "state"), together=max
)
AGE = GaugeSpec(
    name="longreach_directory_age_seconds",
    help="Since the leases were last read; -1: never",
    labels=(),
    together=_oldest,
)
USAGE_PENDING = GaugeSpec(
    name="longreach_usage_pending_bytes",
    help="Usage on disk that is not in the totals yet",
    labels=(),
    together=sum,
)
COUNTERS = (
    REQUESTS, ATTEMPTS, BROKEN, TOKENS, TENANT_TOKENS, SPILLED, REVISION_REQUESTS, REFUSED, PROMPT_COUNTS,
    USAGE_DROPPED, SPANS,
)  # fmt: skip
HISTOGRAMS = (SECONDS, FIRST_BYTE, REVISION_FIRST_BYTE, PROMPT, ADMISSION_WAIT, DECISION, CACHED_ERROR)
GAUGES = (
    IN_FLIGHT, QUEUE, HELD, AUTOSCALE_REPLICAS, AUTOSCALE_STARTUP, AUTOSCALE_PINNED, AUTOSCALE_AGE, BOUNDARY, ENDPOINTS,
    AGE, USAGE_PENDING,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Every tally at one moment, by metric name and label values. Picklable; `encode` is for sockets."""

    counters: dict[str, dict[Labels, float]] = field(default_factory=dict)
    histograms: dict[str, dict[Labels, list[float]]] = field(default_factory=dict)
    """One count a bucket, those over the last bound, then the sum of what was observed."""
    gauges: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As JSON."""
        parts = (self.counters, self.histograms, self.gauges)
        return json.dumps([_rows(part) for part in parts], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, text: bytes) -> Snapshot:
        """What `encode` wrote.

        Raises:
            ValueError: it is anything else.
        """
        try:
            counters, histograms, gauges = (
                {name: {tuple(labels): value for labels, value in rows} for name, rows in part.items()}
                for part in json.loads(text)
            )
        except (TypeError, AttributeError) as error:
            raise ValueError("not a snapshot of metrics") from error
        return cls(counters=counters, histograms=histograms, gauges=gauges)

    def retired(self) -> Snapshot:
        """What stays of a worker that has ended: its counts, so that the sum never shrinks, and no gauges."""
        return Snapshot(counters=self.counters, histograms=self.histograms)


def combined(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Several workers as one."""
    counters: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, list[float]]] = {}
    gathered: dict[str, dict[Labels, list[float]]] = {}
    for snapshot in snapshots:
        for name, series in snapshot.counters.items():
            into = counters.setdefault(name, {})
            for labels, value in series.items():
                into[labels] = into.get(labels, 0) + value
        for name, tallies in snapshot.histograms.items():
            sums = histograms.setdefault(name, {})
            for labels, tally in tallies.items():
                known = sums.get(labels)
                sums[labels] = list(tally) if known is None else [a + b for a, b in zip(known, tally, strict=True)]
        for name, series in snapshot.gauges.items():
            values_of = gathered.setdefault(name, defaultdict(list))
            for labels, value in series.items():
                values_of[labels].append(value)
    together = {spec.name: spec.together for spec in GAUGES}
    gauges = {
        name: {labels: float(together[name](values)) for labels, values in series.items()}
        for name, series in gathered.items()
    }
    return Snapshot(counters=counters, histograms=histograms, gauges=gauges)


def merge(snapshots: Iterable[Snapshot]) -> bytes:
    """The Prometheus text of several workers together."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: combined(snapshots)))
    return generate_latest(registry)


class SnapshotCollector:
    """Hands a snapshot to a Prometheus registry whenever that is scraped."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Sequence[Metric]:
        """Nothing: registering must not take a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric, in the order of this file."""
        snapshot = self._snapshot()
        for counter in COUNTERS:
            counted = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
            for labels, value in snapshot.counters.get(counter.name, {}).items():
                counted.add_metric(labels, value)
            yield counted
        for histogram in HISTOGRAMS:
            observed = HistogramMetricFamily(histogram.name, histogram.help, labels=histogram.labels)
            for labels, tally in snapshot.histograms.get(histogram.name, {}).items():
                observed.add_metric(labels, _cumulative(histogram.buckets, tally), sum_value=tally[-1])
            yield observed
        for gauge in GAUGES:
            standing = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in snapshot.gauges.get(gauge.name, {}).items():
                standing.add_metric(labels, value)
            yield standing


def _cumulative(bounds: Sequence[float], tally: Sequence[float]) -> list[tuple[str, float]]:
    """Prometheus's form: each bucket includes the smaller ones, the last has no bound."""
    rows, running = [], 0.0
    for bound, count in zip([*map(float, bounds), "+Inf"], tally[:-1], strict=True):
        running += count
        rows.append((str(bound), running))
    return rows


def _rows(part: Mapping[str, Mapping[Labels, object]]) -> dict[str, list[tuple[Labels, object]]]:
    return {name: list(series.items()) for name, series in part.items()}
