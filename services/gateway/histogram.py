"""A histogram's tallies: one dictionary entry and a bisection an observation.

What must not live here: names and buckets (metric_specs.py), the text (exposition.py).
"""

from __future__ import annotations

from bisect import bisect_left

from services.gateway.metric_kinds import HistogramSpec, Labels


class Histogram:
    """Observations by label values, as `Snapshot.histograms` has them."""

    __slots__ = ("_blank", "_bounds", "series")

    def __init__(self, spec: HistogramSpec) -> None:
        """Nothing is observed yet."""
        self._bounds = spec.buckets
        self._blank: list[float] = [0] * (len(spec.buckets) + 2)
        self.series: dict[Labels, list[float]] = {}

    def touch(self, labels: Labels) -> list[float]:
        """The tally of these labels, all zeros where there was none."""
        tally = self.series.get(labels)
        if tally is None:
            tally = self.series[labels] = self._blank.copy()
        return tally

    def observe(self, labels: Labels, value: float) -> None:
        """Count `value`, in the metric's unit."""
        tally = self.series.get(labels) or self.touch(labels)
        tally[bisect_left(self._bounds, value)] += 1
        tally[-1] += value
