"""`longreach loadtest report` and `compare`: what runs come to.

What must not live here: reckoning (loadtest/report), running (loadtest.py).
"""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.files import write
from cluster.cli.target import print_json

if TYPE_CHECKING:
    from loadtest.record import Run
    from loadtest.report import Level, Missed

EXIT_MISSED = 1
"""A threshold was missed."""
STDOUT = Path("-")

SloOption = Annotated[
    str | None,
    typer.Option(
        "--slo",
        help="Service level in seconds: ttft=2,ttft_per_1k=0.25,itl=0.1, the default; e2e=30: the whole answer.",
    ),
]
ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        help="What the run must reach, as 'ttft_p95_s<2' or, for a label, 'short/ttft_p95_s<2'; else exit status 1. "
        "Several times for several.",
        metavar="CONDITION",
    ),
]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write one page with plots here.", metavar="FILE")]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write figures as JSON here; - prints them instead.", metavar="FILE")
]


def report(
    run: Annotated[Path, typer.Argument(help="What `longreach loadtest run` wrote.", metavar="RUN")],
    slo: SloOption = None,
    threshold: ThresholdOption = None,
    html: HtmlOption = None,
    json: JsonFileOption = None,
) -> None:
    """Show what a load test came to: TTFT, ITL, goodput, errors; by label, prompt length and pool."""
    from loadtest.report import parse_level, parse_threshold
    from loadtest.run_file import read_run

    level = parse_level(slo)
    # Before a long file is read: a mistake in one is told at once.
    for text in threshold or ():
        parse_threshold(text)
    with working(f"reading {run}"):
        found = read_run(run)
    if tell(found, level=level, thresholds=threshold or (), html=html, json=json):
        raise typer.Exit(EXIT_MISSED)


def compare(
    first: Annotated[Path, typer.Argument(help="The baseline's run.", metavar="FIRST")],
    second: Annotated[Path, typer.Argument(help="The run that is held against it.", metavar="SECOND")],
    slo: SloOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap; the same seed, the same intervals.")] = 0,
    html: HtmlOption = None,
    json: JsonFileOption = None,
) -> None:
    """Compare two load tests: each figure, the difference and its 95% interval."""
    from cluster.cli.loadtest_view import show_comparison
    from loadtest.report import parse_level
    from loadtest.report.compare import compare as compared
    from loadtest.report.compare import comparison_json
    from loadtest.report.page import comparison_page
    from loadtest.run_file import read_run

    level = parse_level(slo)
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    with working("comparing"):
        here, there = read_run(first), read_run(second)
        found = compared(here, there, level, seed=seed)
        if html is not None:
            write(html, comparison_page(here, there, found, names))
    if json is not None:
        write_json(json, comparison_json(found))
    if json != STDOUT:
        show_comparison(found, names)
        say_written(html, json)


def tell(
    run: Run, *, level: Level, thresholds: Sequence[str], html: Path | None, json: Path | None
) -> tuple[Missed, ...]:
    """Show a run, and write what was asked for; which thresholds it missed.

    Raises:
        SetupError: a threshold means nothing, or a file cannot be written.
    """
    from cluster.cli.loadtest_view import show_run
    from loadtest.report import as_json, missed, parse_threshold, summary
    from loadtest.report.page import run_page

    with working("summing up"):
        found = summary(run, level)
        misses = missed(found, [parse_threshold(text) for text in thresholds])
        if html is not None:
            write(html, run_page(run, found, misses))
    if json is not None:
        write_json(json, {**as_json(found), "missed": [str(one) for one in misses]})
    if json != STDOUT:
        show_run(found)
        say_written(html, json)
    for one in misses:
        typer.echo(f"missed: {one}", err=True)
    return misses


def write_json(path: Path, data: Any) -> None:
    """Write figures, or print them where `STDOUT` is named.

    Raises:
        SetupError: the file cannot be written.
    """
    if path == STDOUT:
        print_json(data)
    else:
        write(path, json_format.dumps(data, indent=1) + "\n")


def say_written(*paths: Path | None) -> None:
    """Say what was written."""
    for path in paths:
        if path is not None:
            typer.echo(f"Wrote {path}")


@contextmanager
def working(what: str) -> Iterator[None]:
    """A line on standard error while a long run is read or summed up."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
