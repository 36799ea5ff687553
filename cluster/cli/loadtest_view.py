"""Load tests in the terminal.

What must not live here: reckoning (loadtest/report).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.cli.simulate_view import wide_console

if TYPE_CHECKING:
    from loadtest.judges.agreement import Agreement
    from loadtest.judges.taken import Figures
    from loadtest.report import Summary
    from loadtest.report.compare import Comparison


def show_run(found: Summary) -> None:
    """A run's totals, its groups, its errors, and what to take care of."""
    from loadtest.report.table import ERROR_HEADS, GROUP_HEADS, as_table, error_rows, sections, totals, warnings

    console = wide_console()
    for name, value in totals(found):
        console.print(f"{name}: {value}", markup=False)
    for name, rows in sections(found):
        console.print()
        console.print(as_table((name, *GROUP_HEADS), rows))
    if found.errors:
        console.print()
        console.print(as_table(ERROR_HEADS, error_rows(found), texts=2))
    for warning in warnings(found):
        console.print(f"\nTake care: {warning}.", markup=False)


def show_comparison(found: Comparison, names: tuple[str, str]) -> None:
    """Both runs' figures, and how far apart they are."""
    from loadtest.report.table import DIFFERENCE_HEADS, as_table, difference_rows

    console = wide_console()
    console.print(f"first: {names[0]}\nsecond: {names[1]}\n", markup=False)
    console.print(as_table(DIFFERENCE_HEADS, difference_rows(found), texts=2))
    for warning in found.warnings:
        console.print(f"\nTake care: {warning}.", markup=False)


def show_agreement(found: Agreement, ours: Sequence[Figures], theirs: Sequence[Figures], *, title: str) -> None:
    """Both tools' figures, how far apart they are, and the verdict."""
    from loadtest.judges.table import HEADS, closing, rows
    from loadtest.report.table import as_table

    console = wide_console()
    console.print(f"{title}\n", markup=False, highlight=False)
    console.print(as_table(HEADS, rows(found, ours, theirs)))
    console.print()
    for line in closing(found, len(ours)):
        console.print(line, markup=False, highlight=False)
