"""What is on disk under a store's root: complete copies, found by their manifests.

What lives here: looking. What must not: changing anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.models.manifest import read_manifest, sizes_match

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.models.manifest import Manifest
    from cluster.models.sources import Reference

NOT_IN_FOLDER_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
MAX_FOLDER_NAME_LETTERS = 200
"""File systems allow 255 bytes; the partial folder's name has the revision behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One complete revision on disk."""

    path: Path
    manifest: Manifest


def folder_name(model_id: str) -> str:
    """The folder a model's revisions are in: `organisation/name` becomes `organisation--name`."""
    return NOT_IN_FOLDER_NAMES.sub("--", model_id).lstrip(".")[-MAX_FOLDER_NAME_LETTERS:]


def copies_of(root: Path, reference: Reference) -> tuple[Copy, ...]:
    """Complete copies of what was asked for, newest first."""
    wanted = reference.revision
    return tuple(
        copy
        for copy in _copies_in(root / folder_name(reference.id))
        if copy.manifest.model_id == reference.id
        and (wanted is None or wanted in {copy.manifest.requested, copy.manifest.revision})
    )


def all_copies(root: Path) -> tuple[Copy, ...]:
    """Every complete copy under `root`, by folder name, newest first within one."""
    if not root.is_dir():
        return ()
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(copy for folder in folders for copy in _copies_in(folder))


def _copies_in(folder: Path) -> list[Copy]:
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        manifest = read_manifest(path)
        if manifest is not None and sizes_match(path, manifest):
            found.append(Copy(path=path, manifest=manifest))
    return sorted(found, key=lambda copy: copy.manifest.created_s, reverse=True)
