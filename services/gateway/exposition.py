"""How tallies of one or several workers become one snapshot, and Prometheus text.

What must not live here: the metrics' names (metric_specs.py), counting (metrics.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from services.gateway.metric_kinds import Labels
from services.gateway.metric_specs import COUNTERS, GAUGES, HISTOGRAMS


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
