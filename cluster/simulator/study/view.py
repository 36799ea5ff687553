"""A study as rows, plots and numbers.

What must not live here: the study.
"""

from __future__ import annotations

from html import escape
from math import inf
from typing import Any

from cluster.plots.scale import Axis
from cluster.plots.svg import Mark, Region, Series, plot
from cluster.simulator.report.metrics import BANDS, LONG_TOKENS
from cluster.simulator.report.page import HEAD, table_html
from cluster.simulator.report.table import as_json, band_name, finite, seconds
from cluster.simulator.study.compare import LONG_RATIO_MAX, SHORT_GAIN_MIN, Standing, verdict
from cluster.simulator.study.study import Rate, Study

MAXIMUM_HEADS = ("one pool for everything", "stable maximum, requests/s", "times the trace's rate")
ROW_HEADS = (
    "", "TTFT p99 s, under 4k", "4k to 32k", "32k or more", "ITL p99 ms", "good", "computed / least",
    "preempted", "short, times lower", "long, times",
)  # fmt: skip
SHOWN_STATIC = 1
OURS = 2
"""Longreach's place among the plot's series, whose colour its frontier has."""
SHORT = Axis(label="TTFT p99 under 4k tokens, s", is_log=True)


def maximum_rows(study: Study) -> list[tuple[str, ...]]:
    """Under `MAXIMUM_HEADS`, the largest first."""
    own = _own_rate(study)
    ordered = sorted(study.maxima.items(), key=lambda entry: -entry[1].factor)
    return [(name, f"{maximum.factor * own:.2f}", f"{maximum.factor:.2f}") for name, maximum in ordered]


def rate_rows(rate: Rate) -> list[tuple[str, ...]]:
    """Under `ROW_HEADS`: the shared pools, the best static one, and what Longreach has on its frontier."""
    by_good = sorted(rate.shared, key=lambda one: -one.figures.every.good_ratio)
    static = sorted(rate.static, key=lambda one: -one.figures.every.good_ratio)[:SHOWN_STATIC]
    return [_row(one, rate) for one in (*by_good, *static, *rate.frontier)]


def sentence(rate: Rate) -> str:
    """What a rate comes to."""
    found = rate.verdict
    met = "meets" if found.is_met else "misses"
    return (
        f"At {rate.load:.0%}, {rate.chosen.name} {met} the target against {rate.reference.name}: TTFT p99 of prompts "
        f"under 4k tokens {found.short_gain:.1f} times lower (wanted {SHORT_GAIN_MIN:g}), of those "
        f"{_longest_name(rate)} {found.long_ratio:.2f} times (at most {LONG_RATIO_MAX:g})."
    )


def study_json(study: Study) -> dict[str, Any]:
    """For programs."""
    question = study.question
    found: dict[str, Any] = finite(
        {
            "trace": question.trace.name,
            "requests": len(question.trace.requests),
            "gpus": question.gpus,
            "seed": question.seed,
            "best_shared": study.best_shared,
            "maxima": {
                name: {"factor": maximum.factor, "requests_per_s": maximum.factor * _own_rate(study)}
                for name, maximum in study.maxima.items()
            },
            "rates": [_rate_json(rate) for rate in study.rates],
        }
    )
    return found


def frontier_plot(rate: Rate, trace: str) -> str:
    """Every system of a rate, by what it makes of short prompts and of long ones; the target is a shaded corner."""
    reference, chosen = rate.reference, rate.chosen
    name = reference.name.removeprefix("shared-")
    return plot(
        f"{trace} at {rate.load:.0%} of the best shared pool's stable maximum",
        SHORT,
        Axis(label=f"TTFT p99 {_longest_name(rate)} tokens, s", is_log=True),
        [
            Series(name="one shared pool", points=_points(rate.shared), mark=Mark.POINTS),
            Series(name="static pools", points=_points(rate.static), mark=Mark.POINTS),
            Series(name="Longreach", points=_points(rate.pools), mark=Mark.POINTS),
            Series(name="Longreach's frontier", points=_points(rate.frontier), colour=OURS),
            Series(name=f"reference: {name}", points=_points([reference]), mark=Mark.RINGS, is_dashed=True),
            Series(name=f"chosen: {chosen.name}", points=_points([chosen]), mark=Mark.RINGS),
        ],
        region=_target(reference),
    )


def _longest_name(rate: Rate) -> str:
    longest = rate.reference.longest
    return "from 32k" if longest.from_tokens == LONG_TOKENS else band_name(longest.from_tokens)


def _target(reference: Standing) -> Region | None:
    """Where the target is met; none where the reference serves too few to have a percentile."""
    x, y = reference.short_s / SHORT_GAIN_MIN, reference.long_s * LONG_RATIO_MAX
    if not (0 < x < inf and 0 < y < inf):
        return None
    return Region(name=f"target: {SHORT_GAIN_MIN:g} times lower, at most {LONG_RATIO_MAX:g} times", x=x, y=y)


def study_page(study: Study) -> str:
    """One HTML page, whole in itself."""
    title = f"{study.question.trace.name} on {study.question.gpus} cards"
    parts = [f"<h1>{escape(title)}</h1>", table_html(MAXIMUM_HEADS, maximum_rows(study))]
    for rate in study.rates:
        parts += [
            f"<h2>{rate.load:.0%}: {rate.requests_per_s:.2f} requests a second</h2>",
            f"<p>{escape(sentence(rate))}</p>",
            table_html(ROW_HEADS, rate_rows(rate)),
            frontier_plot(rate, study.question.trace.name),
        ]
    return HEAD.format(title=escape(title), body="\n".join(parts))


def _row(one: Standing, rate: Rate) -> tuple[str, ...]:
    figures = one.figures
    found = verdict(one, rate.reference)
    middle = next((band for band in figures.bands if band.from_tokens == BANDS[1]), None)
    mark = " *" if one is rate.chosen else ""
    return (
        f"{one.name}{mark}",
        seconds(one.short_s),
        seconds(middle.ttft_s.p99) if middle is not None else "",
        seconds(figures.long.ttft_s.p99) if figures.long.requests else "",
        f"{1000 * figures.every.itl_s.p99:.0f}",
        f"{figures.every.good_ratio:.1%}",
        f"{figures.prefilled_tokens / figures.ideal_prefill_tokens:.2f}",
        f"{figures.preemptions:,}",
        f"{found.short_gain:.2f}",
        f"{found.long_ratio:.2f}",
    )


def _rate_json(rate: Rate) -> dict[str, Any]:
    return {
        "load": rate.load,
        "factor": rate.factor,
        "requests_per_s": rate.requests_per_s,
        "reference": rate.reference.name,
        "chosen": rate.chosen.name,
        "short_gain": rate.verdict.short_gain,
        "long_ratio": rate.verdict.long_ratio,
        "is_met": rate.verdict.is_met,
        "frontier": [one.name for one in rate.frontier],
        "systems": [_standing_json(one) for one in (*rate.shared, *rate.static, *rate.pools)],
    }


def _standing_json(one: Standing) -> dict[str, Any]:
    stability = one.stability
    return {
        "system": one.name,
        "is_stable": stability.is_stable,
        "served_ratio": stability.served_ratio,
        "growth_ratio": stability.growth_ratio,
        "backlog_s": stability.backlog_s,
        **as_json(one.figures),
    }


def _points(standings: tuple[Standing, ...] | list[Standing]) -> list[tuple[float, float]]:
    return [(one.short_s, one.long_s) for one in standings]


def _own_rate(study: Study) -> float:
    requests = study.question.trace.requests
    return len(requests) / requests[-1].arrival_s
