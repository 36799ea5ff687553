"""From runs to figures: what short requests waited, with and without long ones beside them.

What must not live here: sending, tables, plots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, nan
from statistics import median
from typing import Any

from loadtest.pools.plan import Layout
from loadtest.record import Record, Run
from loadtest.report.distribution import Distribution, distribution
from loadtest.report.summary import counted
from loadtest.report.times import tpot_s, ttft_s

SHORT, LONG = "short", "long"
"""Labels of the scenario."""
PERCENTS = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of the load."""

    layout: Layout
    with_long: bool
    run: Run
    load_1min: float
    """Of the machine when it began."""


def rows(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """One for each layout, without and with long requests: all rounds' requests together, and the spread of rounds."""
    return [
        _row(layout, runs, with_long=with_long)
        for layout in Layout
        for with_long in (False, True)
        if (runs := [one for one in measured if one.layout is layout and one.with_long is with_long])
    ]


def factor(found: Sequence[dict[str, Any]], layout: Layout, percent: str) -> float:
    """By how much long requests lengthen short ones' TTFT at this percentile; nan where either was not measured."""
    by_load: dict[bool, float] = {
        row["with_long"]: row["ttft_s"][percent] for row in found if row["layout"] == str(layout)
    }
    return by_load.get(True, nan) / (by_load.get(False) or nan)


def of_label(measured: Iterable[Measured], label: str) -> list[Record]:
    """Requests of this kind, after the warm-up."""
    return [record for one in measured for record in counted(one.run) if record.label == label]


def _row(layout: Layout, runs: Sequence[Measured], *, with_long: bool) -> dict[str, Any]:
    shorts, longs = of_label(runs, SHORT), of_label(runs, LONG)
    each = [asdict(_ttft(of_label([one], SHORT))) for one in runs]
    return {
        "layout": str(layout),
        "with_long": with_long,
        "rounds": len(runs),
        "short_requests": len(shorts),
        "long_requests": len(longs),
        "failed": sum(bool(record.error) for record in (*shorts, *longs)),
        "ttft_s": asdict(_ttft(shorts)),
        "ttft_spread_s": {name: [min(one[name] for one in each), max(one[name] for one in each)] for name in PERCENTS},
        "tpot_s": asdict(distribution(time for one in shorts if not one.error and (time := tpot_s(one)) is not None)),
        "long_ttft_s": asdict(_ttft(longs)) if longs else None,
        "lag_p99_s": max(one.run.client.get("late_p99_s", 0.0) for one in runs),
        "load_1min": median(one.load_1min for one in runs),
    }


def _ttft(records: Iterable[Record]) -> Distribution:
    times = (ttft_s(record) for record in records if not record.error)
    return distribution(time for time in times if time is not None and isfinite(time))
