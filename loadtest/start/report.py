"""Draws a report as tables.

What must not live here: figures that are not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cluster.core.start import StartStage

if TYPE_CHECKING:
    from rich.console import Console


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print everything that was measured."""
    console.print(totals_table(report["rows"]))
    console.print()
    console.print(stages_table(report["rows"]))
    if report["ratio"] is not None:
        verdict = "met" if report["met"] else "missed"
        console.print(
            f"\nForked to spawned: {report['ratio']:.2f}; target, at most {report['target_ratio']:g}: {verdict}. "
            f"Medians; {report['setup']['cores']} cores.",
            highlight=False,
            soft_wrap=True,
        )


def totals_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """From the birth of the process to the first token, and what it costs."""
    table = _table("engine", "starts", "first token s", "smallest..largest", "replaced s", "memory MiB", "load")
    for row in rows:
        least, most = row["first_token_spread_s"]
        table.add_row(
            row["way"],
            str(row["starts"]),
            f"{row['first_token_s']:.1f}",
            f"{least:.1f}..{most:.1f}",
            f"{row['replaced_s']:.1f}",
            f"{row['pss_mib']:,.0f}",
            f"{row['load_1min']:.1f}",
        )
    return table


def stages_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Where the seconds go."""
    stages = [stage for stage in StartStage if any(stage in row["stages_s"] for row in rows)]
    table = _table("seconds", *map(str, stages), "first request")
    for row in rows:
        seconds = [f"{row['stages_s'].get(stage, 0.0):.1f}" for stage in stages]
        table.add_row(row["way"], *seconds, f"{row['ttft_s']:.1f}")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table
