"""What a boundary would bring: how busy two pools were, and how long requests would wait against what they may.

Splitting by size is SITA (Harchol-Balter, Crovella and Murta 1999): each pool then sees sizes that vary less, so its
queue is shorter at the same load. What must not live here: which boundary to take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.core.autoscaling.target import ServiceLevel
from cluster.core.boundary.lengths import Band
from cluster.core.capacity.waiting import waiting

BUSY_MAX_RATIO = 0.98
"""Beyond, waits grow for as long as the load lasts; they are taken to rise steeply from here on, so that of two
overloads the smaller one is still the better."""
OVERLOAD_SLOPE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One pool's replicas."""

    replicas: int
    prefill_tokens_per_s: float
    """Of one replica, with enough to do (`PoolSpeed`)."""
    token_s: float
    """A replica's time for one output token: a step of a full batch, divided by the batch."""

    def service_s(self, band: Band) -> float:
        """A replica's time for a request of the band."""
        return band.prefill_tokens / self.prefill_tokens_per_s + band.output_tokens * self.token_s


class Load(NamedTuple):
    """One pool under some bands."""

    busy_ratio: float
    wait_s: float


class Split(NamedTuple):
    """What a boundary would bring."""

    smaller: Load
    larger: Load
    cost: float
    """Mean wait of a request, in parts of its limit for the first token."""


def split(
    bands: Sequence[Band],
    number: int,
    smaller: Station,
    larger: Station,
    level: ServiceLevel,
    *,
    beyond: ServiceLevel | None = None,
) -> Split:
    """The outcome of a boundary at the end of band `number`.

    Args:
        bands: what comes.
        number: of the last band that the smaller pool takes.
        smaller: the pool with the limit.
        larger: the next larger one.
        level: what is promised.
        beyond: to requests that the smaller pool does not hold; None: the same. A request is promised what it is
            promised wherever it is served, else moving it would seem to help.
    """
    below = [band for band in bands if band.number <= number]
    above = [band for band in bands if band.number > number]
    small, large = _load(below, smaller), _load(above, larger)
    requests = sum(band.requests_per_s for band in bands)
    within = [band for band in above if band.number <= 0]
    longer = [band for band in above if band.number > 0]
    weight_above = _weight(within, level) + _weight(longer, beyond or level)
    cost = small.wait_s * _weight(below, level) + large.wait_s * weight_above
    return Split(small, large, cost / requests if requests > 0 else 0.0)


def _weight(bands: Iterable[Band], level: ServiceLevel) -> float:
    """Requests a second, each counted by what a second of waiting is of its limit."""
    return sum(band.requests_per_s / level.ttft_limit_s(band.prefill_tokens) for band in bands)


def _load(bands: Sequence[Band], station: Station) -> Load:
    requests = sum(band.requests_per_s for band in bands)
    if requests <= 0:
        return Load(0.0, 0.0)
    times = [(band.requests_per_s / requests, station.service_s(band)) for band in bands]
    mean_s = sum(part * time_s for part, time_s in times)
    if mean_s <= 0:
        return Load(0.0, 0.0)
    spread = sum(part * (time_s / mean_s) ** 2 for part, time_s in times) - 1
    busy = requests * mean_s / max(station.replicas, 1)
    # A pool without replicas starts its first one for this: as if it had one that is always behind.
    excess = max(busy - BUSY_MAX_RATIO, 0.0) + (1.0 if station.replicas == 0 else 0.0)
    servers = max(station.replicas, 1)
    waits = waiting(
        arrivals_per_s=min(busy, BUSY_MAX_RATIO) * servers / mean_s,
        service_s=mean_s,
        service_cv2=max(spread, 0.0),
        servers=servers,
    )
    return Load(busy, waits.mean_of_all_s * (1 + OVERLOAD_SLOPE * excess) + excess * mean_s)
