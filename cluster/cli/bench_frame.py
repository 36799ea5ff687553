"""What the benches with clusters of their own have in common: options, progress, the report, an end by a signal.

What must not live here: measuring (loadtest), one bench's options.
"""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from loadtest.prefix.progress import Watcher

JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write the rows to this file as JSON; - prints them.", metavar="FILE")
]
PLAIN_WIDTH = 170
"""Characters; the widest table fits."""
PLAIN_LINES = 8
"""Of progress in each part, where there is no terminal to draw a bar on."""


class Frame:
    """One bench from its begin to its report.

    Args:
        json: where the report goes as JSON.

    Raises:
        BadParameter: it could not be written there.
    """

    def __init__(self, json: Path | None) -> None:
        from rich.console import Console

        _check_json_file(json)
        console = Console()
        # A file or a pipe has no width of its own; the default would break every line in two.
        self._console = console if console.is_terminal else Console(width=PLAIN_WIDTH)
        self.progress = Console(stderr=True)
        """For progress: tables go to standard output."""
        self._json = json
        self._started_s = time.monotonic()

    @contextmanager
    def measuring(self, *, unit: str = "requests") -> Iterator[Watcher]:
        """A watcher that draws progress in these units; whatever runs within is taken down where a signal comes.

        Raises:
            Exit: after a signal, with the status that a shell expects.
        """
        from cluster.local.interrupt import InterruptedBySignal, raising

        try:
            with raising(), _drawn(self.progress, unit=unit) as watcher:
                yield watcher
        except InterruptedBySignal as signal:
            raise typer.Exit(signal.exit_status) from None

    def tell(self, report: dict[str, Any], print_report: Callable[[Console, dict[str, Any]], None]) -> None:
        """The report and how long it took: as JSON to the file, or instead of tables for `-`, and as tables."""
        took_s = round(time.monotonic() - self._started_s, 1)
        text = json_format.dumps({**report, "took_s": took_s}, indent=2)
        if str(self._json) == "-":
            typer.echo(text)
            return
        if self._json is not None:
            self._json.write_text(f"{text}\n", encoding="utf-8")
        print_report(self._console, report)
        self._console.print(f"Took {took_s:.0f} s.", style="dim", highlight=False)


def one_of(value: str, option: str, allowed: tuple[str, ...]) -> str:
    """`value`, which must be one of `allowed`.

    Raises:
        BadParameter: it is not.
    """
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}", param_hint=f"'{option}'")
    return value


@contextmanager
def _drawn(console: Console, *, unit: str) -> Iterator[Watcher]:
    """A watcher that draws a progress bar on `console` while a part is measured, and nothing while a cluster starts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )

    class Drawing:
        """One bar a part: the cluster's own display and a bar cannot be there at the same time."""

        def __init__(self) -> None:
            self._progress: Progress | None = None
            self._what = ""
            self._steps = 1
            self._done = -1

        def begins(self, what: str, steps: int) -> None:
            """A part of so many steps begins."""
            self.ends()
            self._what, self._steps, self._done = what, steps, -1
            if not console.is_terminal:
                console.print(f"{what}: {steps} {unit}", highlight=False)
                return
            # Twice a second: drawing shares the cores with the engines.
            self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
            self._progress.add_task(what, total=steps)
            self._progress.start()

        def step(self, what: str) -> None:
            """One step begins; those before it are over, or nearly."""
            self._done += 1
            if not console.is_terminal and self._done and self._done % max(self._steps // PLAIN_LINES, 1) == 0:
                console.print(f"  {self._done} of {self._steps}, now {what}", highlight=False)
            if self._progress is not None:
                task = self._progress.task_ids[0]
                self._progress.update(task, completed=self._done, description=f"{self._what}: {what}")

        def ends(self) -> None:
            """The part is over."""
            if self._progress is not None:
                self._progress.stop()
                self._progress = None

    drawing = Drawing()
    try:
        yield drawing
    finally:
        drawing.ends()


def _check_json_file(json: Path | None) -> None:
    """Refuse at once a file that could not be written.

    Raises:
        BadParameter: its folder is not there.
    """
    if json is not None and str(json) != "-" and not json.absolute().parent.is_dir():
        raise typer.BadParameter(f"{json.absolute().parent} is not a folder", param_hint="'--json'")
