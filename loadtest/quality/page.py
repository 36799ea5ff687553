"""A quality run as one self-contained HTML page: tables, and accuracy by length and depth as heat maps.

What must not live here: judging (verdict.py), drawing (cluster/plots).
"""

from __future__ import annotations

from html import escape

from cluster.plots.heat import heat_map
from cluster.simulator.report.page import HEAD, table_html
from loadtest.quality.answered import Condition, QualityRun
from loadtest.quality.table import (
    COMPARISON_HEADS,
    CONDITION_HEADS,
    accuracy_rows,
    comparison_row,
    condition_rows,
    sentences,
    with_depth,
)
from loadtest.quality.verdict import Verdict, accuracy
from loadtest.report.page import STYLE, facts, plots, told, wide

TITLE = "Quality under load"


def quality_page(run: QualityRun, found: Verdict) -> str:
    """The whole page."""
    heads, rows = accuracy_rows(run)
    parts = [STYLE, f"<h1>{TITLE}</h1>", f"<p>{'Passed' if found.passes else 'Not passed'}</p>"]
    parts += told("Take care", sentences(found))
    parts += ["<h2>Conditions</h2>", wide(table_html(CONDITION_HEADS, condition_rows(run)))]
    if found.comparisons:
        compared = [comparison_row(one) for one in found.comparisons]
        parts += ["<h2>Differences</h2>", wide(table_html(COMPARISON_HEADS, compared))]
    parts += [f"<h2>Right answers, {run.conditions[0]}</h2>", wide(table_html(heads, rows))]
    parts += ["<h2>By length and depth</h2>", plots([depth_map(run, one) for one in run.conditions])]
    arguments = [(str(key), str(value)) for key, value in sorted(run.arguments.items())]
    parts += ["<h2>The run</h2>", facts([("begun", run.begun), ("api", run.api), *arguments])]
    return HEAD.format(title=escape(TITLE), body="\n".join(parts))


def depth_map(run: QualityRun, condition: Condition) -> str:
    """Right answers of needle and join by length and depth, as papers on needles have it."""
    lengths, depths, asked = with_depth(run)
    cells = {}
    for length in lengths:
        for depth in depths:
            here = [one for one in asked if (one.prompt_tokens, one.depth) == (length, depth)]
            if here:
                share = accuracy(here, condition)
                cells[f"{depth:.0%}", f"{length:,}"] = (share.ratio, f"{share.right}/{share.questions}")
    return heat_map(
        f"Needle and join, {condition}",
        columns=[f"{length:,}" for length in lengths],
        rows=[f"{depth:.0%}" for depth in depths],
        cells=cells,
        across="prompt tokens",
        down="depth",
    )
