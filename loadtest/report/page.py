"""One self-contained HTML page of a run, or of two: figures in tables, plots inline, no script, nothing from elsewhere.

What must not live here: reckoning, drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cluster.simulator.report.page import HEAD, table_html
from loadtest.record import Run
from loadtest.report.compare import Comparison
from loadtest.report.plots import distributions, knee_plot, over_time, sampled
from loadtest.report.summary import Summary
from loadtest.report.table import (
    DIFFERENCE_HEADS,
    ERROR_HEADS,
    GROUP_HEADS,
    difference_rows,
    error_rows,
    group_row,
    sections,
    totals,
    warnings,
)
from loadtest.report.thresholds import Missed

STYLE = (
    "<style>body{max-width:92rem}.wide{overflow-x:auto;font-size:13.5px}"
    ".wide td,.wide th{white-space:nowrap;padding:.25rem .5rem}"
    ".wide td:first-child,.wide th:first-child{min-width:7rem}.texts td,.texts th{text-align:left}li{margin:.3rem 0}"
    ".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(34rem,100%),1fr));gap:0 1rem}</style>"
)
"""Tables of groups have many columns; plots stand side by side where there is room."""


def run_page(run: Run, found: Summary, misses: Sequence[Missed] = ()) -> str:
    """The page of one run."""
    title = f"Load test: {found.scenario}"
    parts = [STYLE, f"<h1>{escape(title)}</h1>", facts(totals(found))]
    parts += told("Thresholds missed", [str(one) for one in misses]) + told("Take care", warnings(found))
    parts.append("<h2>Requests</h2>")
    for name, rows in sections(found):
        parts.append(wide(table_html((name or " ", *GROUP_HEADS), rows)))
    if found.errors:
        parts += ["<h2>Errors</h2>", _texts(table_html(ERROR_HEADS, error_rows(found)))]
    parts += ["<h2>Over time</h2>", plots(over_time({"": run}) + sampled(run.metrics))]
    if found.knee is not None:
        parts += ["<h2>The knee</h2>", plots([knee_plot(found.knee)])]
    parts += ["<h2>Distributions</h2>", plots(distributions({"": run}))]
    parts += ["<h2>The run</h2>", facts(_arguments(run))]
    return HEAD.format(title=escape(title), body="\n".join(parts))


def comparison_page(first: Run, second: Run, found: Comparison, names: tuple[str, str]) -> str:
    """The page of two runs.

    Args:
        first: the baseline.
        second: what is held against it.
        found: their comparison.
        names: what to call them; where both are called alike they are numbered.
    """
    one, other = names if names[0] != names[1] else ("first", "second")
    title = f"Load tests: {one} and {other}"
    parts = [STYLE, f"<h1>{escape(title)}</h1>", *told("Take care", list(found.warnings))]
    parts.append(
        wide(table_html((DIFFERENCE_HEADS[0], "of", one, other, *DIFFERENCE_HEADS[4:]), difference_rows(found)))
    )
    rows = [(name, *group_row(summary.every)[1:]) for name, summary in ((one, found.first), (other, found.second))]
    parts += ["<h2>Requests</h2>", wide(table_html((" ", *GROUP_HEADS), rows))]
    parts += ["<h2>Distributions</h2>", plots(distributions({one: first, other: second}))]
    parts += ["<h2>Over time</h2>", plots(over_time({one: first, other: second}))]
    for name, run, summary in ((one, first, found.first), (other, second, found.second)):
        parts += [f"<h2>{escape(name)}</h2>", facts([*totals(summary), *_arguments(run)])]
        parts += told("Take care", warnings(summary))
    return HEAD.format(title=escape(title), body="\n".join(parts))


def wide(table: str) -> str:
    """A table with many columns."""
    return f'<div class="wide">{table}</div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """What is said once: names and values."""
    return _texts(table_html(("", ""), rows))


def _texts(table: str) -> str:
    return f'<div class="texts">{table}</div>'


def plots(drawn: Sequence[str]) -> str:
    """Side by side, where there is room."""
    return f'<div class="plots">{"".join(drawn)}</div>'


def told(head: str, lines: Sequence[str]) -> list[str]:
    """Sentences under a head; nothing where there are none."""
    if not lines:
        return []
    return [f"<h2>{escape(head)}</h2>", "<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]


def _arguments(run: Run) -> list[tuple[str, str]]:
    rows = [(str(key), str(value)) for key, value in sorted(run.arguments.items())]
    return rows + [(f"client's {key}", f"{value:.4g}") for key, value in sorted(run.client.items())]
