"""Plots as SVG text: lines, steps or points over linear or logarithmic axes, readable in light and dark.

Colours are those of Okabe and Ito (2008), told apart by people who confuse red and green; text follows the page. What
must not live here: what is plotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from html import escape
from math import ceil, floor, inf, isfinite, log10

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
LEGEND_LINE = 18
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#999999", "#B8860B", "#4D9221")
TICKS = 6
STYLE = (
    "<style>.plot{font:12px system-ui,sans-serif;color:#1f2328;background:#fff}"
    ".plot text{fill:currentColor}.plot .grid{stroke:currentColor;stroke-opacity:.15}"
    ".plot .axis{stroke:currentColor;stroke-opacity:.6}"
    "@media(prefers-color-scheme:dark){.plot{color:#e6edf3;background:#0d1117}}</style>"
)
"""Inside each plot, so that a file of its own looks the same as one in a page."""


class Mark(Enum):
    """How a series is drawn."""

    LINE = "line"
    STEP = "step"
    POINTS = "points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a plot; points that are not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]
    mark: Mark = Mark.LINE
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows."""

    label: str
    is_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool

    def at(self, value: float) -> float:
        """The pixel of a value, within the axis."""
        low, high, place = (
            (map(log10, (self.low, self.high, max(value, self.low))))
            if self.is_log
            else (
                self.low,
                self.high,
                value,
            )
        )
        share = (place - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if self.is_log:
            powers = range(ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers]
        span = self.high - self.low
        step = 10.0 ** floor(log10(span / TICKS))
        step *= next(many for many in (1, 2, 5, 10) if span / (step * many) <= TICKS)
        first = ceil(self.low / step - 1e-9)
        return [(first + count) * step for count in range(int((self.high - first * step) / step + 1e-9) + 1)]


def plot(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """A whole `<svg>` element; one without points says so."""
    drawn = [_within(one, x, y) for one in series]
    points = [point for one in drawn for point in one.points]
    legend_rows = ceil(len(drawn) / 3)
    height = HEIGHT + legend_rows * LEGEND_LINE
    head = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{STYLE}<text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>'
    )
    if not points:
        return f'{head}<text x="{LEFT}" y="{TOP + 40}">nothing to show</text></svg>'
    across = _scale([point[0] for point in points], x, LEFT, WIDTH - RIGHT)
    up = _scale([point[1] for point in points], y, HEIGHT - BOTTOM, TOP)
    parts = [head, _grid(across, up, x, y)]
    for index, one in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        parts += [_mark(one, across, up, colour), _legend(index, one.name, colour)]
    return "".join([*parts, "</svg>"])


def _within(series: Series, x: Axis, y: Axis) -> Series:
    """Only what can be drawn: finite, and above 0 on a logarithmic axis."""
    return Series(
        name=series.name,
        mark=series.mark,
        is_dashed=series.is_dashed,
        points=[
            point
            for point in series.points
            if all(isfinite(value) for value in point) and not (x.is_log and point[0] <= 0)
            if not (y.is_log and point[1] <= 0)
        ],
    )


def _scale(values: Sequence[float], axis: Axis, begin: float, end: float) -> Scale:
    low, high = min(values, default=inf), max(values)
    if axis.is_log:
        low, high = 10 ** floor(log10(low)), 10 ** ceil(log10(high))
        high = high if high > low else low * 10
    else:
        low = min(low, 0.0)
        high = high if high > low else low + 1.0
    return Scale(low=low, high=high, begin=begin, end=end, is_log=axis.is_log)


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


def _mark(series: Series, across: Scale, up: Scale, colour: str) -> str:
    places = [(across.at(one), up.at(other)) for one, other in series.points]
    if series.mark is Mark.POINTS:
        return "".join(f'<circle cx="{one:.1f}" cy="{other:.1f}" r="4" fill="{colour}"/>' for one, other in places)
    if not places:
        return ""
    if series.mark is Mark.STEP:
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{one:.1f}V{other:.1f}" for one, other in places)
    else:
        path = "M" + "L".join(f"{one:.1f} {other:.1f}" for one, other in places)
    dashes = ' stroke-dasharray="6 4"' if series.is_dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _legend(index: int, name: str, colour: str) -> str:
    row, column = divmod(index, 3)
    left, top = LEFT + column * (WIDTH - LEFT) // 3, HEIGHT + row * LEGEND_LINE
    return (
        f'<rect x="{left}" y="{top}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{left + 18}" y="{top + 10}">{escape(name)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:g}"  # noqa: PLR2004 - digits to show
