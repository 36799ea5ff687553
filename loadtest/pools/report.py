"""Draws what was measured: tables, and the distributions as plots.

What must not live here: figures that are not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cluster.plots.scale import Axis
from cluster.plots.svg import Mark, Series, plot
from loadtest.pools.plan import Layout
from loadtest.pools.results import LONG, SHORT, Measured, factor, of_label
from loadtest.report.plots import distribution_points
from loadtest.report.table import as_table, seconds
from loadtest.report.times import ttft_s

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("replicas as", "long requests", "short requests", "TTFT p50", "p95", "p99", "TPOT p50", "p95", "long TTFT p50")
SECONDS = Axis(label="seconds", is_log=True)
SHARE = Axis(label="share of short requests")
TIME = Axis(label="seconds since the begin", is_snug=True)


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print everything that was measured."""
    console.print(as_table(HEADS, [_cells(row) for row in report["rows"]], texts=1))
    console.print("\nSeconds; in parentheses the smallest and the largest of the rounds.", style="dim", highlight=False)
    for layout in Layout:
        p50, p95 = (factor(report["rows"], layout, percent) for percent in ("p50", "p95"))
        console.print(
            f"{str(layout).capitalize()}: with long requests a short one's TTFT is {p50:.2f} times as long at p50, "
            f"{p95:.2f} times at p95.",
            highlight=False,
            soft_wrap=True,
        )


def plots(measured: Sequence[Measured]) -> dict[str, str]:
    """SVG by file name: the distribution of short requests' TTFT, and each request of the first round over time."""
    found = {"pools-ttft.svg": plot("Short requests: time to first token", SECONDS, SHARE, _curves(measured))}
    for layout in Layout:
        runs = [one for one in measured if one.layout is layout and one.with_long][:1]
        series = [
            Series(name=f"{label} requests", points=_over_time(runs, label), mark=Mark.POINTS)
            for label in (SHORT, LONG)
        ]
        name = f"pools-time-{layout.name.lower()}.svg"
        found[name] = plot(
            f"{str(layout).capitalize()}: time to first token, by when it was due", TIME, SECONDS, series
        )
    return found


def _curves(measured: Sequence[Measured]) -> list[Series]:
    return [
        Series(
            name=f"{layout}, {'with' if with_long else 'without'} long",
            points=distribution_points(
                time
                for record in of_label((one for one in measured if _is(one, layout, with_long)), SHORT)
                if not record.error and (time := ttft_s(record)) is not None
            ),
            is_dashed=not with_long,
            colour=colour,
        )
        for colour, layout in enumerate(Layout)
        for with_long in (False, True)
    ]


def _is(one: Measured, layout: Layout, with_long: bool) -> bool:  # noqa: FBT001 - beside its like
    return one.layout is layout and one.with_long is with_long


def _over_time(runs: Sequence[Measured], label: str) -> list[tuple[float, float]]:
    return [
        (record.due_s, time)
        for record in of_label(runs, label)
        if not record.error and (time := ttft_s(record)) is not None
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    def spread(percent: str) -> str:
        least, most = row["ttft_spread_s"][percent]
        value = seconds(row["ttft_s"][percent])
        return value if row["rounds"] == 1 else f"{value} ({seconds(least)}..{seconds(most)})"

    long_ttft = row["long_ttft_s"]
    failed = f", {row['failed']} failed" if row["failed"] else ""
    return (
        row["layout"],
        str(row["long_requests"]) if row["with_long"] else "none",
        f"{row['short_requests']}{failed}",
        *(spread(percent) for percent in ("p50", "p95", "p99")),
        seconds(row["tpot_s"]["p50"]),
        seconds(row["tpot_s"]["p95"]),
        seconds(long_ttft["p50"]) if long_ttft else "",
    )
