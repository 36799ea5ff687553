"""What autoscaling saves, as rows, plots and numbers.

What must not live here: the comparison (scaling.py).
"""

from __future__ import annotations

from html import escape
from typing import Any

from cluster.plots.scale import Axis
from cluster.plots.svg import Mark, Series, plot
from cluster.simulator.report.metrics import BANDS, BandFigures
from cluster.simulator.report.page import HEAD, table_html
from cluster.simulator.report.table import as_json, band_name, finite, seconds
from cluster.simulator.study.scaling import (
    LEVELS,
    SAVING_WANTED,
    Contender,
    Family,
    Scaling,
    cards_over_time,
)

HEADS = (
    "", "GPU hours", "cards", "ups", "downs", "good",
    *(f"TTFT p99 s, {band_name(begin)}" for begin in BANDS[:2]), "32k or more", "ITL p99 ms", "busy",
)  # fmt: skip
WINDOW_S = 60.0
"""Over which the rate of what comes is told."""
HOURS = Axis(label="hours since the beginning", is_snug=True)


def scaling_rows(scaling: Scaling) -> list[tuple[str, ...]]:
    """Under `HEADS`: each family by GPU hours, the dearest first; the cheapest at a level are marked."""
    marked = {id(scaling.cheapest(family, level)) for family in Family for level in LEVELS}
    ordered = [
        one
        for family in Family
        for one in sorted((one for one in scaling.contenders if one.family is family), key=lambda one: -one.gpu_hours)
    ]
    return [_row(one, is_marked=id(one) in marked) for one in ordered]


def sentences(scaling: Scaling) -> list[str]:
    """What it comes to, one sentence for each level and peer."""
    return [_sentence(scaling, level, peer) for level in LEVELS for peer in (Family.STATIC, Family.COUNTS)]


def scaling_json(scaling: Scaling) -> dict[str, Any]:
    """For programs."""
    question = scaling.question
    found: dict[str, Any] = finite(
        {
            "trace": question.trace.name,
            "requests": len(question.trace.requests),
            "gpus": question.gpus,
            "startup_s": question.startup_s,
            "baseline": question.baseline.value,
            "policy": question.policy,
            "seed": question.seed,
            "saved": [
                {
                    "good_ratio": level,
                    "against": peer.value,
                    "saved_ratio": scaling.saved_ratio(level, against=peer),
                    "gpu_hours": _hours(scaling.cheapest(Family.LONGREACH, level)),
                    "their_gpu_hours": _hours(scaling.cheapest(peer, level)),
                }
                for level in LEVELS
                for peer in (Family.STATIC, Family.COUNTS)
            ],
            "systems": [
                {
                    "family": one.family.value,
                    "system": one.name,
                    "ups": one.ups,
                    "downs": one.downs,
                    "fewest_cards": one.fewest,
                    "most_cards": one.most,
                    **as_json(one.figures),
                }
                for one in scaling.contenders
            ],
        }
    )
    return found


def savings_plot(scaling: Scaling) -> str:
    """Every setting that keeps the promise, by what it costs and what short prompts wait."""
    return plot(
        f"{scaling.question.trace.name}: cost and TTFT, with {LEVELS[0]:.0%} or more within the service level",
        Axis(label="GPU hours"),
        Axis(label="TTFT p99 under 4k tokens, s", is_log=True),
        [Series(name=family.value, points=_costs(scaling, family), mark=Mark.POINTS) for family in Family],
    )


def _costs(scaling: Scaling, family: Family) -> list[tuple[float, float]]:
    return [
        (one.gpu_hours, one.figures.short.ttft_s.p99)
        for one in scaling.contenders
        if one.family is family and one.good_ratio >= LEVELS[0] and one.figures.short is not None
    ]


def cards_plot(scaling: Scaling, good_ratio: float) -> str:
    """Cards over time: the cheapest of each family, and each pool of Longreach's."""
    series = []
    for family in Family:
        one = scaling.cheapest(family, good_ratio)
        if one is None:
            continue
        series.append(_steps(f"{family}: {one.name}", cards_over_time(one.sizes), one.ended_s))
        pools = dict.fromkeys(size.pool for size in one.sizes)
        if len(pools) > 1:
            for pool in pools:
                sizes = [(size.at_s, size.ready + size.starting) for size in one.sizes if size.pool == pool]
                series.append(_steps(f"of them {pool}", sizes, one.ended_s, is_dashed=True))
    title = f"{scaling.question.trace.name}: cards of the cheapest with {good_ratio:.0%} good"
    return plot(title, HOURS, Axis(label="cards, those that start included"), series)


def load_plot(scaling: Scaling) -> str:
    """What comes."""
    counts: dict[int, int] = {}
    for request in scaling.question.trace.requests:
        counts[int(request.arrival_s // WINDOW_S)] = counts.get(int(request.arrival_s // WINDOW_S), 0) + 1
    points = [
        (window * WINDOW_S / 3600.0, counts.get(window, 0) / WINDOW_S) for window in range(max(counts, default=-1))
    ]
    return plot(
        f"{scaling.question.trace.name}: what comes",
        HOURS,
        Axis(label="requests/s"),
        [Series(name=f"mean over {WINDOW_S:.0f} s", points=points)],
    )


def scaling_page(scaling: Scaling) -> str:
    """One HTML page, whole in itself."""
    title = f"Autoscaling on {scaling.question.trace.name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(sentence)}</p>" for sentence in sentences(scaling)),
        table_html(HEADS, scaling_rows(scaling)),
        savings_plot(scaling),
        load_plot(scaling),
        *(cards_plot(scaling, level) for level in LEVELS),
    ]
    return HEAD.format(title=escape(title), body="\n".join(parts))


def _row(one: Contender, *, is_marked: bool) -> tuple[str, ...]:
    figures = one.figures
    bands = {band.from_tokens: band for band in figures.bands}
    cards = f"{one.fewest} to {one.most}" if one.most > one.fewest else f"{one.most}"
    return (
        f"{one.family}, {one.name}{' *' if is_marked else ''}",
        f"{one.gpu_hours:.2f}",
        cards,
        f"{one.ups:,}",
        f"{one.downs:,}",
        f"{one.good_ratio:.1%}",
        *(_p99(bands.get(begin)) for begin in BANDS[:2]),
        _p99(figures.long),
        f"{1000 * figures.every.itl_s.p99:.0f}",
        f"{figures.busy_ratio:.0%}",
    )


def _p99(band: BandFigures | None) -> str:
    return seconds(band.ttft_s.p99) if band is not None and band.requests else ""


def _sentence(scaling: Scaling, level: float, peer: Family) -> str:
    ours, theirs = scaling.cheapest(Family.LONGREACH, level), scaling.cheapest(peer, level)
    saved = scaling.saved_ratio(level, against=peer)
    if ours is None:
        return f"With {level:.0%} good: no setting of {Family.LONGREACH} serves so many."
    if theirs is None or saved is None:
        return f"With {level:.0%} good: {ours.name} takes {ours.gpu_hours:.2f} GPU hours; {peer} serves fewer."
    met = "meets" if saved >= SAVING_WANTED else "misses"
    change = f"{saved:.0%} fewer" if saved >= 0 else f"{-saved:.0%} more"
    return (
        f"With {level:.0%} good: {Family.LONGREACH}, {ours.name}, takes {ours.gpu_hours:.2f} GPU hours, {change} than "
        f"{peer}, {theirs.name} ({theirs.gpu_hours:.2f}); this {met} the target of {SAVING_WANTED:.0%}."
    )


def _hours(one: Contender | None) -> float | None:
    return None if one is None else one.gpu_hours


def _steps(name: str, changes: list[tuple[float, int]], ended_s: float, *, is_dashed: bool = False) -> Series:
    points = [(at_s / 3600.0, float(cards)) for at_s, cards in changes]
    return Series(name=name, points=[*points, (ended_s / 3600.0, points[-1][1])], mark=Mark.STEP, is_dashed=is_dashed)
