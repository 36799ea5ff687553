"""Repeats become rows: the median of each figure and how far the repeats lay apart.

Figures, by their name in the JSON: `cpu_us_per_request` (short requests), `cpu_us_per_chunk_burst` and `_paced`,
`ratio_burst` (streamed chunks a second, against straight to an engine in the same run), `added_ttft_p50_ms` and
`_p99_ms` (quiet streams), `pss_mb` (at the end). `short`, `burst` and `paced` hold what these come from; `long` has, by
kind of text, `cpu_ms` a request and `other_stream_delay_ms` (the worst chunk of a stream beside it, less the same
without a router); `memory` and `memory_slow` the growth with requests.
What must not live here: measuring, drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loadtest.bench.measure import Sample

HEADLINES = (
    "cpu_us_per_request",
    "cpu_us_per_chunk_burst",
    "cpu_us_per_chunk_paced",
    "ratio_burst",
    "added_ttft_p50_ms",
    "added_ttft_p99_ms",
    "pss_mb",
)
"""Always in the JSON; null where a router could not be measured."""
DIRECT = ("short.direct_requests_s", "burst.direct_chunks_s", "paced.direct_chunks_s")
"""Measured without any router, so what these vary by is this machine's noise."""
DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One router over all repeats."""

    name: str
    figures: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest value of each figure."""
    failed: int = 0
    """Requests that were not answered as they should, over all repeats."""
    status: Mapping[int, int] = field(default_factory=dict)
    repeats: int = 0
    why: str | None = None
    """Why it was not measured, or not in full."""


def row_of(name: str, samples: Sequence[Sample], *, why: str | None = None) -> Row:
    """The row of a router from its repeats; a figure that some repeats lack comes from the others."""
    values: dict[str, list[float]] = {}
    status: dict[int, int] = {}
    for sample in samples:
        for key, value in sample.figures.items():
            if math.isfinite(value):
                values.setdefault(key, []).append(value)
        for code, count in sample.status.items():
            status[code] = status.get(code, 0) + count
    return Row(
        name=name,
        figures={key: median(found) for key, found in values.items()},
        spread={key: (min(found), max(found)) for key, found in values.items()},
        failed=sum(sample.failed for sample in samples),
        status=status,
        repeats=len(samples),
        why=why,
    )


def noise(samples: Sequence[Sample]) -> dict[str, float]:
    """How far the direct baselines of one run lie apart, as (largest - smallest) / median."""
    found = {}
    for key in DIRECT:
        values = [sample.figures[key] for sample in samples if key in sample.figures]
        if values:
            found[key] = (max(values) - min(values)) / median(values)
    return found


def as_json(row: Row, headlines: Sequence[str] = HEADLINES) -> dict[str, Any]:
    """The row as the JSON file has it: headlines first, what belongs together nested."""
    data: dict[str, Any] = {"name": row.name, **dict.fromkeys(headlines)}
    for key, value in row.figures.items():
        _put(data, key, round(value, DIGITS))
    data["spread"] = {key: [round(low, DIGITS), round(high, DIGITS)] for key, (low, high) in row.spread.items()}
    data |= {"failed": row.failed, "status": {str(code): count for code, count in sorted(row.status.items())}}
    return data | {"repeats": row.repeats, "why": row.why}


def _put(data: dict[str, Any], key: str, value: float) -> None:
    *path, last = key.split(".")
    for step in path:
        data = data.setdefault(step, {})
    data[last] = value
