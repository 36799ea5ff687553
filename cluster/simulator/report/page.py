"""One self-contained HTML page of runs: figures in tables, plots inline, no script, nothing from the network.

What must not live here: drawing (svg.py), figures (metrics.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isfinite

from cluster.plots.scale import Axis
from cluster.plots.svg import Mark, Series, plot
from cluster.simulator.outcome import Fate, Result
from cluster.simulator.report.metrics import BANDS, Figures
from cluster.simulator.report.table import ROW_HEADS, band_name, rows_of, totals_of

CURVE_POINTS = 200
"""Of a distribution; more cannot be seen."""
SECONDS = Axis(label="seconds", is_log=True)
SHARE = Axis(label="share of requests")
STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:#1f2328;background:#fff}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #8884}
th:first-child,td:first-child{text-align:left;min-width:13rem}
svg{width:100%;height:auto;margin:1rem 0}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}}
"""


HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" '
    'content="width=device-width"><style>' + STYLE.replace("{", "{{").replace("}", "}}") + "</style></head>"
    "<body>{body}</body></html>\n"
)
"""A page, but for its title and its body."""


def page(title: str, runs: Sequence[tuple[Figures, Result]]) -> str:
    """The page of one run or several."""
    parts = [f"<h1>{escape(title)}</h1>"]
    for figures, result in runs:
        parts += [
            f"<h2>{escape(figures.policy)}</h2>",
            table_html(("", ""), totals_of(figures)),
            table_html(ROW_HEADS, rows_of(figures)),
        ]
        if len({size.at_s for size in result.sizes}) > 1:
            parts.append(sizes_plot(result))
    parts += distribution_plots([result for _, result in runs])
    return HEAD.format(title=escape(title), body="\n".join(parts))


def distribution_plots(results: Sequence[Result]) -> list[str]:
    """How TTFT and ITL are distributed, in each band of prompts, over all requests that came."""
    plots = []
    for band, begin in enumerate(BANDS):
        end = BANDS[band + 1] if band + 1 < len(BANDS) else None
        curves = [
            Series(name=f"{result.router}", points=_distribution(_ttfts(result, begin, end))) for result in results
        ]
        if any(curve.points for curve in curves):
            plots.append(plot(f"Time to first token, prompts of {band_name(begin)} tokens", SECONDS, SHARE, curves))
    itls = [Series(name=result.router, points=_distribution(_itls(result))) for result in results]
    return [*plots, plot("Mean time between the tokens of an answer", SECONDS, SHARE, itls)]


def sizes_plot(result: Result) -> str:
    """Replicas of each pool over time."""
    pools = list(dict.fromkeys(size.pool for size in result.sizes))
    series = []
    for pool in pools:
        points = [(size.at_s, float(size.ready)) for size in result.sizes if size.pool == pool]
        series.append(Series(name=pool, points=[*points, (result.ended_s, points[-1][1])], mark=Mark.STEP))
    return plot("Replicas that serve", Axis(label="seconds", is_snug=True), Axis(label="replicas"), series)


def _ttfts(result: Result, begin: int, end: int | None) -> list[float]:
    return [
        record.ttft_s if record.fate is Fate.DONE else float("inf")
        for record in result.outcomes
        if record.prompt_tokens >= begin and (end is None or record.prompt_tokens < end)
    ]


def _itls(result: Result) -> list[float]:
    return [record.itl_s for record in result.outcomes if record.fate is Fate.DONE and record.output_tokens > 1]


def _distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Of all values; those that are not finite leave the curve below 1."""
    ordered = sorted(values)
    step = max(len(ordered) // CURVE_POINTS, 1)
    places = [*range(0, len(ordered), step), len(ordered) - 1] if ordered else []
    return [(ordered[place], (place + 1) / len(ordered)) for place in places if isfinite(ordered[place])]


def table_html(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; without a head where its names are empty."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads) if any(heads) else ""
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>" if head else f"<table>{lines}</table>"
