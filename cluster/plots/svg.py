"""Plots as SVG text: lines, steps or points over linear or logarithmic axes, readable in light and dark.

Colours are those of Okabe and Ito (2008), told apart by people who confuse red and green; points differ in shape as
well. Text follows the page. What must not live here: axes (scale.py), what is plotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from html import escape
from math import ceil, isfinite

from cluster.plots.scale import Axis, Scale, scale_of

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 36, 40, 50
LEGEND_LINE = 20
LEGEND_CHARACTERS = {3: 30, 2: 48}
"""Of a name in so many columns; with a longer one there is a column less."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#999999", "#B8860B", "#4D9221")
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",
    "M-3.5-3.5h7v7h-7Z",
    "M0-4.5L4.5 3.5H-4.5Z",
    "M0-5L5 0L0 5L-5 0Z",
)
"""Of points, around their place: circle, square, triangle, diamond."""
RING = "M-8 0a8 8 0 1 0 16 0a8 8 0 1 0-16 0Z"
REGION_RATIO = 0.7
"""Axes begin no higher than this part of a region's bounds, so that there is something to see of it."""
STYLE = (
    "<style>.plot{font:12px system-ui,sans-serif;color:#1f2328;background:#fff}"
    ".plot text{fill:currentColor}.plot .grid{stroke:currentColor;stroke-opacity:.15}"
    ".plot .axis{stroke:currentColor;stroke-opacity:.6}.plot .region{fill:currentColor;fill-opacity:.08}"
    ".plot .ring{fill:none;stroke:currentColor;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){.plot{color:#e6edf3;background:#0d1117}}</style>"
)
"""Inside each plot, so that a file of its own looks the same as one in a page."""


class Mark(Enum):
    """How a series is drawn."""

    LINE = "line"
    STEP = "step"
    POINTS = "points"
    RINGS = "rings"
    """Around points of another series, dashed or not; without a colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a plot; points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    mark: Mark = Mark.LINE
    is_dashed: bool = False
    colour: int | None = None
    """That of the series with this place; None: its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A shaded corner: everything up to two values."""

    name: str
    x: float
    y: float


def plot(title: str, x: Axis, y: Axis, series: Sequence[Series], *, region: Region | None = None) -> str:
    """A whole `<svg>` element; one without points says so."""
    drawn = [_within(one, x, y) for one in series]
    points = [point for one in drawn for point in one.points]
    names = [one.name for one in drawn] + ([] if region is None else [region.name])
    columns = next((count for count, most in LEGEND_CHARACTERS.items() if max(map(len, names), default=0) <= most), 1)
    height = HEIGHT + ceil(len(names) / columns) * LEGEND_LINE
    head = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{STYLE}<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>'
    )
    if not points:
        return f'{head}<text x="{LEFT}" y="{TOP + 40}">nothing to show</text></svg>'
    corner = [] if region is None else [(region.x, region.y), (REGION_RATIO * region.x, REGION_RATIO * region.y)]
    across = scale_of([one for one, _ in (*points, *corner)], x, LEFT, WIDTH - RIGHT)
    up = scale_of([other for _, other in (*points, *corner)], y, HEIGHT - BOTTOM, TOP)
    parts = [head, "" if region is None else _region(region, across, up), _grid(across, up, x, y)]
    for index, one in enumerate(drawn):
        at_x, at_y = _legend_place(index, columns)
        parts += [
            _mark(one, index, [(across.at(first), up.at(second)) for first, second in one.points]),
            _sample(one, index, at_x, at_y),
            _legend_text(one.name, at_x, at_y),
        ]
    if region is not None:
        at_x, at_y = _legend_place(len(drawn), columns)
        parts.append(f'<rect class="region" x="{at_x}" y="{at_y - 6}" width="16" height="12"/>')
        parts.append(_legend_text(region.name, at_x, at_y))
    return "".join([*parts, "</svg>"])


def _within(series: Series, x: Axis, y: Axis) -> Series:
    """Only what can be drawn: finite, and above 0 on a logarithmic axis."""
    points = [
        point
        for point in series.points
        if all(isfinite(value) for value in point) and not (x.is_log and point[0] <= 0)
        if not (y.is_log and point[1] <= 0)
    ]
    return replace(series, points=points)


def _region(region: Region, across: Scale, up: Scale) -> str:
    right, top = across.at(region.x), up.at(region.y)
    width, height = right - LEFT, HEIGHT - BOTTOM - top
    return f'<rect class="region" x="{LEFT}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _grid(across: Scale, up: Scale, x: Axis, y: Axis) -> str:
    parts = []
    for value in across.ticks():
        at = across.at(value)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(value)}</text>')
    for value in up.ticks():
        at = up.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    parts.append(
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(x.label)}</text>'
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def _mark(series: Series, index: int, places: Sequence[tuple[float, float]]) -> str:
    if series.mark in (Mark.POINTS, Mark.RINGS):
        return "".join(_point(series, index, one, other) for one, other in places)
    if not places:
        return ""
    if series.mark is Mark.STEP:
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{one:.1f}V{other:.1f}" for one, other in places)
    else:
        path = "M" + "L".join(f"{one:.1f} {other:.1f}" for one, other in places)
    return _line(series, index, path)


def _sample(series: Series, index: int, x: float, y: float) -> str:
    """A piece of it, for the legend."""
    if series.mark in (Mark.POINTS, Mark.RINGS):
        return _point(series, index, x + 8, y)
    return _line(series, index, f"M{x} {y}h16")


def _point(series: Series, index: int, x: float, y: float) -> str:
    if series.mark is Mark.RINGS:
        return f'<path class="mark ring" transform="translate({x:.1f} {y:.1f})" d="{RING}"{_dashes(series)}/>'
    shape = SHAPES[index % len(SHAPES)]
    return f'<path class="mark" transform="translate({x:.1f} {y:.1f})" d="{shape}" fill="{_colour(series, index)}"/>'


def _line(series: Series, index: int, path: str) -> str:
    stroke = _colour(series, index)
    return f'<path class="mark" d="{path}" fill="none" stroke="{stroke}" stroke-width="2"{_dashes(series)}/>'


def _dashes(series: Series) -> str:
    return ' stroke-dasharray="4 3"' if series.is_dashed else ""


def _colour(series: Series, index: int) -> str:
    return COLOURS[(index if series.colour is None else series.colour) % len(COLOURS)]


def _legend_place(index: int, columns: int) -> tuple[float, float]:
    row, column = divmod(index, columns)
    return LEFT + column * (WIDTH - LEFT) // columns, HEIGHT + row * LEGEND_LINE + 6


def _legend_text(name: str, x: float, y: float) -> str:
    return f'<text x="{x + 24}" y="{y + 4}">{escape(name)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.4g}"  # noqa: PLR2004 - digits to show
