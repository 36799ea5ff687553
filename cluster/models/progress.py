"""Progress of long steps, as the store reports it and as the command line draws it.

What lives here: the protocol, its silent form, and a watcher for downloads that report nothing themselves. What
must not: drawing (the command line does).
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

WATCH_INTERVAL_S = 0.25
"""How often a growing folder is measured: smooth to the eye, a few stat calls each."""


class Progress(Protocol):
    """Called with a stage's name and how far it is; may be called from another thread, so keep it quick."""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int | None) -> None:
        """Report `done_bytes` of `total_bytes` (None: unknown) in `stage`."""


def silent(stage: str, done_bytes: int, total_bytes: int | None) -> None:
    """Progress that nobody watches."""


class GrowingFolder:
    """Reports a folder's size as progress while something else (pip) writes into it."""

    def __init__(
        self, folder: Path, *, stage: str, base_bytes: int, total_bytes: int | None, progress: Progress
    ) -> None:
        self._folder = folder
        self._stage = stage
        self._base_bytes = base_bytes
        self._most_bytes = base_bytes
        self._total_bytes = total_bytes
        self._progress = progress
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"progress-{stage}", daemon=True)

    def __enter__(self) -> Self:
        self._report()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(WATCH_INTERVAL_S):
            self._report()

    def _report(self) -> None:
        # Never back: at the end a downloader moves its temporary file out of the folder.
        self._most_bytes = max(self._most_bytes, self._base_bytes + folder_bytes(self._folder))
        done_bytes = self._most_bytes if self._total_bytes is None else min(self._most_bytes, self._total_bytes)
        self._progress(self._stage, done_bytes, self._total_bytes)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under `folder`; files that vanish while it looks count as nothing."""
    total_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total_bytes += (Path(parent) / name).lstat().st_size
    return total_bytes
