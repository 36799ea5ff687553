"""A quality run in the terminal: under way, and what it came to.

What must not live here: judging (loadtest/quality).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.cli.simulate_view import wide_console

if TYPE_CHECKING:
    from loadtest.quality.answered import Condition, QualityRun, Reply
    from loadtest.quality.verdict import Comparison, Verdict


@contextmanager
def following(answers: int) -> Iterator[Callable[[Condition, Reply], None]]:
    """Draw on standard error how many of so many answers there are."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[told]}", style="dim"),
    )  # fmt: skip
    right = failed = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking", total=answers, told="")

        def watch(condition: Condition, reply: Reply) -> None:
            nonlocal right, failed
            right, failed = right + reply.is_right, failed + bool(reply.error)
            told = f"{right} right" + (f", {failed} failed" if failed else "")
            progress.update(task, advance=1, description=str(condition), told=told)

        yield watch


def show_quality(run: QualityRun, found: Verdict) -> None:
    """Conditions, accuracy, differences, the verdict."""
    from loadtest.quality.table import (
        COMPARISON_HEADS,
        CONDITION_HEADS,
        accuracy_rows,
        comparison_row,
        condition_rows,
        depth_rows,
        sentences,
    )
    from loadtest.report.table import as_table

    console = wide_console()
    console.print(as_table(CONDITION_HEADS, condition_rows(run), texts=2))
    console.print(f"\nright answers, {run.conditions[0]}, by prompt tokens", markup=False)
    heads, rows = accuracy_rows(run)
    console.print(as_table(heads, rows, texts=2))
    heads, rows = depth_rows(run)
    if rows:
        console.print("\nneedle and join by depth")
        console.print(as_table(heads, rows))
    if found.comparisons:
        console.print()
        console.print(as_table(COMPARISON_HEADS, [comparison_row(one) for one in found.comparisons], texts=2))
    for sentence in sentences(found):
        console.print(f"\nTake care: {sentence}.", markup=False)


def show_difference(found: Comparison) -> None:
    """Two runs."""
    from loadtest.quality.table import COMPARISON_HEADS, comparison_row, comparison_sentences
    from loadtest.report.table import as_table

    console = wide_console()
    console.print(as_table(COMPARISON_HEADS, [comparison_row(found)], texts=2))
    for sentence in comparison_sentences(found):
        console.print(f"\nTake care: {sentence}.", markup=False)
