"""The table of the fault suite, for the terminal and for docs/reliability.md.

What must not live here: figures that are not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadtest.report.table import as_table

if TYPE_CHECKING:
    from rich.console import Console

HEADS = (
    "fault", "requests", "lost", "refused", "wrong", "tokens missing", "twice", "bad JSON", "asked again",
    "longest gap s", "before s", "TTFT p95 s", "before s", "well after s",
)  # fmt: skip
GROWTH_HEADS = ("value", "first third", "last third", "most")


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print the table, what was skipped, and what an operator saw."""
    rows = report["rows"]
    console.print(as_table(HEADS, [cells(row) for row in rows if _has_figures(row)], texts=1))
    console.print(
        "\nGaps are between two pieces of one answer: the longest after the fault, and the longest before it.",
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip
    for row in rows:
        if row["skipped"] or row["failed"]:
            why = f"not made, {row['skipped']}" if row["skipped"] else f"came to no end: {row['failed']}"
            console.print(f"{row['fault']}: {why}", highlight=False, soft_wrap=True)
        for line in row["missed"]:
            console.print(f"{row['fault']}: target missed: {line}", highlight=False, soft_wrap=True)
        for name in ("examples", "seen"):
            for line in row[name]:
                console.print(f"{row['fault']}: {line}", style="dim", highlight=False, soft_wrap=True)


def print_soak(console: Console, report: Mapping[str, Any]) -> None:
    """Print what became of the requests, which faults there were, and what grew."""
    print_report(console, report)
    made = ", ".join(f"{name} {count}" for name, count in report["faults"].items())
    console.print(f"\nFaults: {made}", highlight=False, soft_wrap=True)
    rows = [(row["value"], *(f"{row[name]:,.0f}" for name in ("first", "last", "most"))) for row in report["growth"]]
    console.print(as_table(GROWTH_HEADS, rows, texts=1))


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One row of the table."""
    return (
        row["fault"],
        *(
            f"{row[name]:,}"
            for name in (
                "requests", "lost", "refused", "wrong", "missing_tokens", "duplicated_tokens", "invalid_json",
                "asked_again",
            )
        ),
        *(f"{row[name]:.2f}" for name in ("longest_gap_s", "usual_gap_s", "ttft_p95_s", "usual_ttft_p95_s")),
        f"{row['recovered_s']:.0f}",
    )  # fmt: skip


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table for the documentation."""
    lines = [f"| {' | '.join(HEADS)} |", f"|---|{'---:|' * (len(HEADS) - 1)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in rows if _has_figures(row)]
    return "\n".join(lines) + "\n"


def _has_figures(row: Mapping[str, Any]) -> bool:
    return not row["skipped"] and not row["failed"]
