"""The models of a configuration, brought onto this machine with people watching.

What must not live here: where models come from and how they are verified (cluster/models).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cluster.config import Config
from cluster.environment import Environment
from cluster.models.card import ModelCard
from cluster.models.progress import Progress as ModelProgress
from cluster.models.store import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model on this machine."""

    folder: Path
    card: ModelCard


def pull_models(config: Config, environment: Environment, console: Console) -> dict[str, Weights]:
    """Every model that runs here by its id, fetched where it is missing.

    Raises:
        ModelStoreError: a model cannot be had.
    """
    served = {pool.model for pool in config.pools if not pool.is_static}
    store = open_store(environment)
    found: dict[str, Weights] = {}
    for model in config.models:
        if model.id not in served:
            continue
        source = model.source or model.id
        with drawn_progress(console) as progress:
            folder = store.pull(source, revision=model.revision, progress=progress)
        console.print(f"  model {model.id}: {folder}", highlight=False, soft_wrap=True)
        found[model.id] = Weights(folder=folder, card=store.resolve(source, revision=model.revision))
    return found


@contextmanager
def drawn_progress(console: Console) -> Iterator[ModelProgress]:
    """Progress of a model's arrival, drawn as one bar a stage; plain lines where there is no terminal."""
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        guard = threading.Lock()

        def report(stage: str, done_bytes: int, total_bytes: int | None) -> None:
            with guard:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total_bytes)
                    if not console.is_terminal:
                        size = f" ({total_bytes / 1e6:.0f} MB)" if total_bytes else ""
                        console.print(f"  {stage}{size}", highlight=False, markup=False)
                bars.update(tasks[stage], completed=done_bytes, total=total_bytes)

        yield report
