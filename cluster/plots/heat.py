"""Heat maps as SVG text: a number in each cell, on a ground between two colours that also differ in lightness.

What must not live here: other plots (svg.py), what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from cluster.plots.svg import STYLE

CELL_WIDTH, CELL_HEIGHT = 96, 34
LEFT, TOP, BOTTOM = 120, 44, 40
LOW, HIGH = (213, 94, 0), (240, 228, 66)
FULL = (0, 158, 115)
"""Of Okabe and Ito (2008), as other plots: nothing, half, all."""


def heat_map(
    title: str,
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    cells: Mapping[tuple[str, str], tuple[float, str]],
    across: str,
    down: str,
) -> str:
    """A whole `<svg>` element.

    Args:
        title: above it.
        columns: names, from the left.
        rows: names, from the top.
        cells: by row and column, a value from 0 to 1 and the text to write; what is not there stays empty.
        across: what columns are.
        down: what rows are.
    """
    width, height = LEFT + CELL_WIDTH * len(columns) + 10, TOP + CELL_HEIGHT * len(rows) + BOTTOM
    head = (
        f'<svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'style="max-width:{width}px" aria-label="{escape(title)}">{STYLE}'
        f'<text x="10" y="22" font-weight="600">{escape(title)}</text>'
    )
    parts = [head]
    for place, row in enumerate(rows):
        y = TOP + CELL_HEIGHT * place
        parts.append(f'<text x="{LEFT - 8}" y="{y + 22}" text-anchor="end">{escape(row)}</text>')
        for number, column in enumerate(columns):
            if (cell := cells.get((row, column))) is not None:
                parts.append(_cell(LEFT + CELL_WIDTH * number, y, *cell))
    bottom = TOP + CELL_HEIGHT * len(rows) + 16
    for number, column in enumerate(columns):
        x = LEFT + CELL_WIDTH * number + CELL_WIDTH / 2
        parts.append(f'<text x="{x:g}" y="{bottom}" text-anchor="middle">{escape(column)}</text>')
    middle = LEFT + CELL_WIDTH * len(columns) / 2
    parts.append(f'<text x="{middle:g}" y="{bottom + 18}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text x="10" y="{TOP - 6}">{escape(down)}</text></svg>')
    return "".join(parts)


def _cell(x: float, y: float, value: float, text: str) -> str:
    return (
        f'<rect x="{x + 1}" y="{y + 1}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" fill="{_colour(value)}"/>'
        # Black has more contrast than white on each of these grounds.
        f'<text x="{x + CELL_WIDTH / 2}" y="{y + 22}" text-anchor="middle" style="fill:#000">{escape(text)}</text>'
    )


def _colour(value: float) -> str:
    held = min(max(value, 0.0), 1.0)
    (first, second), share = ((LOW, HIGH), 2 * held) if held < 1 / 2 else ((HIGH, FULL), 2 * held - 1)
    mixed = (round(one + (other - one) * share) for one, other in zip(first, second, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
