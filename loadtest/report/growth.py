"""Whether memory grows: the slope of each sampled size over a run.

What must not live here: sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

SUFFIX = "_bytes"
"""Of the names of sampled sizes."""
SAMPLES_MIN = 10
SPAN_MIN_S = 600.0
"""Of less, a slope for an hour says nothing: caches and allocators fill up at first."""
SAMPLES_MAX = 200
"""All pairs of more samples are too many; every n-th is enough for a slope."""
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One sampled size over the run, without its warm-up."""

    name: str
    first_bytes: float
    last_bytes: float
    most_bytes: float
    bytes_per_h: float
    """Theil-Sen: the median of the slopes between all pairs of samples (Theil 1950, Sen 1968), which a few spikes do
    not move."""


def growths(metrics: Sequence[Mapping[str, float]], warmup_s: float) -> tuple[Growth, ...]:
    """Of every size that was sampled often enough, by name."""
    names = sorted({name for sample in metrics for name in sample if name.endswith(SUFFIX)})
    found = []
    for name in names:
        points = [(one["at_s"], one[name]) for one in metrics if name in one and one["at_s"] >= warmup_s]
        if len(points) < SAMPLES_MIN or points[-1][0] - points[0][0] < SPAN_MIN_S:
            continue
        sizes = [size for _, size in points]
        found.append(
            Growth(
                name=name,
                first_bytes=sizes[0],
                last_bytes=sizes[-1],
                most_bytes=max(sizes),
                bytes_per_h=_slope(points[:: -(-len(points) // SAMPLES_MAX)]) * SECONDS_PER_HOUR,
            )
        )
    return tuple(found)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    slopes = [
        (there[1] - here[1]) / (there[0] - here[0]) for here, there in combinations(points, 2) if there[0] > here[0]
    ]
    return median(slopes) if slopes else 0.0
