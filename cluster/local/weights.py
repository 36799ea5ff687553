"""The models of a configuration, brought onto this machine with people watching.

What must not live here: where models come from and how they are verified (cluster/models).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cluster.config import Config, ModelSection
from cluster.environment import Environment
from cluster.models.card import ModelCard
from cluster.models.opening import open_store
from cluster.models.progress import Progress as ModelProgress

PLAIN_EVERY_S = 10.0
"""Where there is no terminal: a line about as often as somebody who reads a pod's log looks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model on this machine."""

    folder: Path
    card: ModelCard


def served_models(config: Config) -> tuple[ModelSection, ...]:
    """The models of pools with replicas, in the configuration's order; those of static pools are elsewhere."""
    served = {pool.model for pool in config.pools if not pool.is_static}
    return tuple(model for model in config.models if model.id in served)


def pull_models(config: Config, environment: Environment, console: Console) -> dict[str, Weights]:
    """Every model that runs here by its id, fetched where it is missing.

    Raises:
        ModelStoreError: a model cannot be had.
    """
    store = open_store(environment)
    found: dict[str, Weights] = {}
    for model in served_models(config):
        source = model.source or model.id
        with drawn_progress(console) as progress:
            folder = store.pull(source, revision=model.revision, progress=progress)
        console.print(f"  model {model.id}: {folder}", highlight=False, soft_wrap=True)
        found[model.id] = Weights(folder=folder, card=store.resolve(source, revision=model.revision))
    return found


@contextmanager
def drawn_progress(console: Console) -> Iterator[ModelProgress]:
    """Progress of a model's arrival, drawn as one bar a stage; a line now and then where there is no terminal."""
    if not console.is_terminal:
        yield _plain_progress(console)
        return
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        guard = threading.Lock()

        def report(stage: str, done_bytes: int, total_bytes: int | None) -> None:
            with guard:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total_bytes)
                bars.update(tasks[stage], completed=done_bytes, total=total_bytes)

        yield report


def _plain_progress(console: Console, *, clock: Callable[[], float] = time.monotonic) -> ModelProgress:
    """A line when a stage begins, and one every `PLAIN_EVERY_S` with how far it is."""
    told_s: dict[str, float] = {}
    guard = threading.Lock()

    def report(stage: str, done_bytes: int, total_bytes: int | None) -> None:
        with guard:
            now_s = clock()
            is_new = stage not in told_s
            if not is_new and now_s < told_s[stage] + PLAIN_EVERY_S:
                return
            told_s[stage] = now_s
            size = f" ({total_bytes / 1e6:.0f} MB)" if total_bytes else ""
            done = "" if is_new or not total_bytes else f" {done_bytes / total_bytes:.0%}"
            console.print(f"  {stage}{done}{size}", highlight=False, markup=False)

    return report
