"""A run's figures as rows of text, for the terminal and for the page, and as numbers for `--json`.

What must not live here: reckoning.
"""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from cluster.simulator.report.metrics import BANDS, BandFigures, Figures

if TYPE_CHECKING:
    from rich.table import Table

ROW_HEADS = (
    "prompt tokens", "requests", "refused", "lost", "good",
    "TTFT p50 s", "p95", "p99", "ITL p50 ms", "p95", "p99",
)  # fmt: skip


def band_name(from_tokens: int) -> str:
    """A band as people say it."""
    following = [begin for begin in BANDS if begin > from_tokens]
    if not following:
        return f"{_thousands(from_tokens)} or more"
    return (
        f"under {_thousands(following[0])}"
        if not from_tokens
        else f"{_thousands(from_tokens)} to {_thousands(following[0])}"
    )


def rows_of(figures: Figures) -> list[tuple[str, ...]]:
    """One row for each band, and one for all; under `ROW_HEADS`."""
    rows = [_row(band_name(band.from_tokens), band) for band in figures.bands]
    return [*rows, _row("all", figures.every)]


def totals_of(figures: Figures) -> list[tuple[str, str]]:
    """What is said once for a run."""
    ideal = figures.ideal_prefill_tokens
    over = figures.prefilled_tokens / ideal if ideal else 1.0
    return [
        ("trace", figures.trace),
        ("requests a second", f"{figures.offered_per_s:.2f}"),
        ("within the service level, a second", f"{figures.goodput_per_s:.2f} ({figures.every.good_ratio:.1%})"),
        ("prompt tokens", f"{figures.prompt_tokens:,}"),
        ("of them computed", f"{figures.prefilled_tokens:,} ({over:.2f} times the least, {ideal:,})"),
        ("output tokens", f"{figures.output_tokens:,}"),
        ("GPU hours", f"{figures.gpu_hours:.2f} ({figures.busy_ratio:.0%} of it in steps)"),
        ("preemptions", f"{figures.preemptions:,}"),
    ]


def as_json(figures: Figures) -> dict[str, Any]:
    """For programs; what is infinite is null, as JSON knows no infinity."""
    found: dict[str, Any] = finite(asdict(figures))
    return found


def as_table(figures: Figures) -> Table:
    """For the terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, head in enumerate(ROW_HEADS):
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    for row in rows_of(figures):
        table.add_row(*row)
    return table


def seconds(value: float) -> str:
    """With three digits; a refused request never got its token."""
    return f"{value:.3g}" if isfinite(value) else "never"


def _row(name: str, band: BandFigures) -> tuple[str, ...]:
    ttft, itl = band.ttft_s, band.itl_s
    return (
        name,
        f"{band.requests:,}",
        f"{band.refused:,}",
        f"{band.lost:,}",
        f"{band.good_ratio:.1%}",
        *map(seconds, (ttft.p50, ttft.p95, ttft.p99)),
        *(f"{1000 * value:.1f}" for value in (itl.p50, itl.p95, itl.p99)),
    )


def _thousands(tokens: int) -> str:
    return f"{tokens // 1024}k"


def finite(value: Any) -> Any:
    """The same with null for what is infinite."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value
