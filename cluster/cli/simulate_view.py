"""Comparisons and lists of traces in the terminal.

What must not live here: reckoning (cluster/simulator/study).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cluster.simulator.study.scaling import Scaling
    from cluster.simulator.study.study import Study
    from cluster.simulator.traces import TraceFit

SHOWN_PROBABILITIES = (0.5, 0.95, 0.99, 1.0)
PLAIN_WIDTH = 200
"""Characters; the widest table fits."""


@contextmanager
def runs_of() -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is run, and how many runs there were."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} runs: {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task = line.add_task("begins", total=None)
        yield lambda what: line.update(task, description=what, advance=1)


def show_study(study: Study, page: Path | None) -> None:
    """A comparison."""
    from cluster.simulator.study.view import MAXIMUM_HEADS, ROW_HEADS, maximum_rows, rate_rows, sentence

    console = wide_console()
    console.print(_table(MAXIMUM_HEADS, maximum_rows(study)))
    for rate in study.rates:
        console.print(f"\n{rate.load:.0%} of {study.best_shared}: {rate.requests_per_s:.2f} requests a second\n")
        console.print(_table(ROW_HEADS, rate_rows(rate)))
        console.print(f"\n{sentence(rate)}")
    if page is not None:
        console.print(f"\nWrote {page}")


def show_scaling(scaling: Scaling, page: Path | None) -> None:
    """What autoscaling saves."""
    from cluster.simulator.study.scaling_view import HEADS, scaling_rows, sentences

    console = wide_console()
    console.print(_table(HEADS, scaling_rows(scaling)))
    console.print("\n* the fewest GPU hours of its kind with so many good requests\n")
    for sentence in sentences(scaling):
        console.print(sentence)
    if page is not None:
        console.print(f"\nWrote {page}")


def wide_console() -> Console:
    """The terminal, or for a file one that is wide enough."""
    from rich.console import Console

    console = Console(highlight=False)
    # A file or a pipe has no width of its own; the default would break every row in two.
    return console if console.is_terminal else Console(width=PLAIN_WIDTH, highlight=False)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: Sequence[str] = ()) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number and head not in texts else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def show_fits(fits: Sequence[TraceFit]) -> None:
    """What can be generated."""
    from cluster.simulator.traces.fit import quantile

    heads = ("name", "requests/s", "prompt p50", "p95", "p99", "most", "output p50", "prefixes", "fitted to")
    rows = []
    for one in fits:
        lengths = [f"{quantile(one.prompt_tokens, probability):,.0f}" for probability in SHOWN_PROBABILITIES]
        output = sum(quantile(band, 0.5) for band in one.output_tokens) / len(one.output_tokens)
        prefixes = "shared" if one.sharing is not None else "unknown"
        rows.append((one.name, f"{one.requests_per_s:.2f}", *lengths, f"{output:,.0f}", prefixes, one.source))
    wide_console().print(_table(heads, rows, texts=("prefixes", "fitted to")))
