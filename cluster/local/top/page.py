"""One page of Prometheus text as numbers to look up, only of the metrics that are wanted.

What must not live here: fetching (reading.py), what two pages say together (rates.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one process told at one moment."""

    read_s: float
    """On a monotonic clock."""
    samples: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    """By the sample's name, with its labels."""

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of all samples with these labels; None where there is none."""
        values = [
            value
            for found, value in self.samples.get(name, ())
            if all(found.get(label) == wanted for label, wanted in labels.items())
        ]
        return math.fsum(values) if values else None

    def highest(self, name: str, **labels: str) -> float | None:
        """The largest of all samples with these labels; None where there is none."""
        return max(
            (
                value
                for found, value in self.samples.get(name, ())
                if all(found.get(label) == wanted for label, wanted in labels.items())
            ),
            default=None,
        )

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """A histogram's counts up to each bound, added up over all other labels."""
        found: dict[float, float] = {}
        for told, value in self.samples.get(f"{name}_bucket", ()):
            if all(told.get(label) == wanted for label, wanted in labels.items()):
                bound = float(told["le"])
                found[bound] = found.get(bound, 0.0) + value
        return found

    def values(self, label: str, *names: str) -> list[str]:
        """Every value of a label on these samples, in the order of the page."""
        return list(
            dict.fromkeys(found[label] for name in names for found, _ in self.samples.get(name, ()) if label in found)
        )


def parse_page(text: str, wanted: Collection[str], read_s: float) -> Page:
    """The wanted samples of a page; a replica tells thousands, of which a few dozen are.

    Args:
        text: in Prometheus's text format.
        wanted: names of samples, `_total` and `_bucket` included.
        read_s: when it was read.

    Raises:
        ValueError: a wanted line is not in that format.
    """
    names = frozenset(wanted)
    lines = [line for line in text.splitlines() if _name(line) in names]
    samples: dict[str, list[Series]] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Page(read_s=read_s, samples={name: tuple(series) for name, series in samples.items()})


def _name(line: str) -> str:
    """The sample's name at a line's beginning; a comment's is `#`."""
    end = line.find("{")
    return line[:end] if end >= 0 else line.partition(" ")[0]
