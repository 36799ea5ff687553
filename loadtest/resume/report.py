"""The table of pauses.

What must not live here: measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from loadtest.report.table import as_table

if TYPE_CHECKING:
    from rich.console import Console

    from loadtest.resume.bench import Pause

HEADS = ("prompt's blocks", "streams", "TTFT cold s", "pause s", "shortest", "longest", "cached tokens")


def rows(pauses: Sequence[Pause]) -> list[dict[str, Any]]:
    """Every pause, as data."""
    return [asdict(pause) for pause in pauses]


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print medians, and the ratio."""
    kept = {name: [row for row in report["rows"] if row["from_redis"] is name] for name in (True, False)}
    cells = []
    for from_redis, found in kept.items():
        pauses = [row["pause_s"] for row in found]
        cells.append(
            (
                "in Redis" if from_redis else "computed again",
                str(len(found)),
                *(f"{value:.2f}" for value in (median(row["ttft_s"] for row in found), median(pauses))),
                *(f"{value:.2f}" for value in (min(pauses), max(pauses))),
                f"{median(row['cached_tokens'] for row in found):,.0f}",
            )
        )
    console.print(as_table(HEADS, cells, texts=1))
    with_blocks, without = (median(row["pause_s"] for row in kept[name]) for name in (True, False))
    tokens, ratio = report["setup"]["prompt_tokens"], without / with_blocks
    console.print(
        f"\nA stream of {tokens:,} prompt tokens pauses {ratio:.1f} times as long where they are computed again.",
        highlight=False,
        soft_wrap=True,
    )
