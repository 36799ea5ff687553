"""The kinds of metrics and their units.

What must not live here: any metric (metric_specs.py), counting (metrics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """UCUM codes, as OpenTelemetry writes them (https://ucum.org/ucum)."""

    REQUESTS = "{request}"
    TOKENS = "{token}"
    REPLICAS = "{replica}"
    ENDPOINTS = "{endpoint}"
    PROMPTS = "{prompt}"
    RECORDS = "{record}"
    SPANS = "{span}"
    CHUNKS = "{chunk}"
    SECONDS = "s"
    BYTES = "By"
    FLAG = "{flag}"
    """0 or 1; with the unit 1, collectors would put `_ratio` behind the name."""


Labels = tuple[str, ...]
Summing = Callable[[Iterable[float]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterSpec:
    """A number that only grows; `_total` is added to its name."""

    name: str
    help: str
    unit: Unit
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSpec:
    """Observations by size; a bucket counts what is at most its bound."""

    name: str
    help: str
    unit: Unit
    labels: Labels
    buckets: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSpec:
    """A number that goes up and down, and what several workers' numbers mean together."""

    name: str
    help: str
    unit: Unit
    labels: Labels
    together: Summing


Spec = CounterSpec | HistogramSpec | GaugeSpec
