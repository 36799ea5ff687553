"""How a model folder comes to be: one at a time, built aside, landed by a rename.

    <root>/<folder>/<revision>/            a complete model, with its manifest
    <root>/.partial/<folder>@<revision>/   files/ (to be landed) and work/ (scratch) of an arrival under way
    <root>/.locks/<folder>.lock            held by the process that works on that model

What lives here: the lock, the disk check, the durable rename. What must not: knowing sources or the catalog.
A process killed at any point leaves either no model folder or a complete one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import IO, TYPE_CHECKING

from cluster.models.faults import store_error
from cluster.models.manifest import write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.models.manifest import Manifest
    from cluster.models.progress import Progress

PARTIAL_NAME = ".partial"
LOCKS_NAME = ".locks"
TOKENIZERS_NAME = ".tokenizers"
"""What has a tokenizer and no weights is below this, laid out like the models."""
SPARE_BYTES = 256 << 20
"""Left free beside a model: a disk filled to the last byte breaks everything else on it."""


@contextlib.contextmanager
def model_lock(root: Path, folder: str, progress: Progress) -> Iterator[None]:
    """Hold the model's lock; waits for another process that has it.

    The lock file stays: removing it would let two processes lock two files of one name.

    Raises:
        ModelStoreError: the file system under `root` has no locks.
    """
    locks = root / LOCKS_NAME
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{folder}.lock").open("a") as file:
        try:
            _lock(file, progress)
        except OSError as error:
            raise store_error(
                f"the file system of {locks} cannot lock a file (flock): {error}",
                "mount it with locks (NFS 4, NFS 3 with a lock service, Lustre with flock), or keep models elsewhere",
            ) from error
        yield  # closing the file releases the lock, also when the process dies


def _lock(file: IO[str], progress: Progress) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("waiting for another process", 0, None)
        fcntl.flock(file, fcntl.LOCK_EX)


def partial_folder(root: Path, folder: str, revision: str) -> Path:
    """Where this arrival is built; the same place each time, so that a killed one resumes."""
    return root / PARTIAL_NAME / f"{folder}@{revision}"


def partial_folders(root: Path, folder: str) -> tuple[Path, ...]:
    """What arrivals of this model have left, of any revision."""
    partial = root / PARTIAL_NAME
    if not partial.is_dir():
        return ()
    return tuple(sorted(path for path in partial.iterdir() if path.name.rpartition("@")[0] == folder))


def check_disk(root: Path, need_bytes: int) -> None:
    """Refuse early where the disk cannot hold what comes.

    Raises:
        ModelStoreError: fewer than `need_bytes` and a reserve are free under `root`.
    """
    free_bytes = shutil.disk_usage(root).free
    if free_bytes < need_bytes + SPARE_BYTES:
        raise store_error(
            f"the disk of {root} has {_gigabytes(free_bytes)} free, {_gigabytes(need_bytes + SPARE_BYTES)} are needed",
            "free space there (longreach models remove MODEL), or keep models on another disk",
        )


def land(partial: Path, target: Path, manifest: Manifest) -> None:
    """Make `partial/files` the model folder `target`: durable first, then visible, in one rename."""
    files = partial / "files"
    for file in manifest.files:
        _sync(files / file.name)
    write_manifest(files, manifest)
    _sync(files)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():  # incomplete, or nobody would have fetched it: a rename needs the name free
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        target.rename(partial / "replaced")
    files.rename(target)
    _sync(target.parent)
    shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB"
