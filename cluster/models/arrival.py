"""Bringing one model's files under a root, unless they are there: once, resumed, checked, landed.

What lives here: the order of these steps. What must not: knowing sources (sources.py), where a root is and what it is
for (store.py, tokenizer_store.py).
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from cluster.models.faults import store_error
from cluster.models.inventory import copies_of, folder_name
from cluster.models.landing import check_disk, land, model_lock, partial_folder, partial_folders
from cluster.models.manifest import Manifest, describe_folder
from cluster.models.progress import folder_bytes
from cluster.models.sources import source_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.models.fetch import Fetch
    from cluster.models.progress import Progress
    from cluster.models.sources import Reference


def arrive(
    root: Path,
    reference: Reference,
    open_source: Callable[[], Fetch],
    *,
    check: Callable[[Path], object],
    progress: Progress,
) -> Path:
    """The folder of `reference` under `root`, fetched where it is missing.

    Args:
        root: where it belongs.
        reference: what is wanted; not a folder.
        open_source: asks its source; called only where it is missing.
        check: refuses what came, before it looks complete.
        progress: is told.

    Raises:
        ModelStoreError: the source cannot be reached, the disk is too small, or what came is not what was promised.
    """
    copies = copies_of(root, reference)
    if copies:
        return copies[0].path
    try:
        with model_lock(root, folder_name(reference.id), progress):
            copies = copies_of(root, reference)  # another process may have brought it while this one waited
            if copies:
                return copies[0].path
            return _bring(root, reference, open_source(), check, progress)
    except OSError as error:
        raise store_error(
            f"{root} cannot take {reference.id}: {error}", "check the disk's space and permissions"
        ) from error


def _bring(root: Path, reference: Reference, fetch: Fetch, check: Callable[[Path], object], progress: Progress) -> Path:
    """Fetch into the partial folder and land; the model's lock is held."""
    name = folder_name(reference.id)
    partial = partial_folder(root, name, fetch.revision)
    for other in partial_folders(root, name):
        if other != partial:  # of a revision that nobody asks for any more
            shutil.rmtree(other, ignore_errors=True)
    check_disk(root, max(0, fetch.peak_bytes - folder_bytes(partial)))
    files, work = partial / "files", partial / "work"
    files.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    fetch.into(files, work, progress)
    check(files)
    manifest = Manifest(
        model_id=reference.id,
        source=source_text(reference.source),
        requested=reference.revision,
        revision=fetch.revision,
        created_s=time.time(),
        files=describe_folder(files, progress),
    )
    progress("landing", manifest.size_bytes, manifest.size_bytes)
    target = root / name / fetch.revision
    land(partial, target, manifest)
    return target
