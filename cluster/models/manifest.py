"""The list of files that makes a model folder complete: written last, checked first.

What lives here: the manifest's form, writing, reading, the quick check (sizes) and the full one (hashes). What must
not: moving folders about (landing.py) and knowing where files come from.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster.models.faults import store_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.models.progress import Progress

MANIFEST_NAME = "longreach-manifest.json"
MANIFEST_VERSION = 1
READ_BYTES = 1 << 20
"""Read size for hashing: large enough that the hash, not the call, is the cost."""
MAX_MANIFEST_BYTES = 4 << 20
"""A manifest has about 150 bytes a file; a larger file is not one of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file: its name inside the folder, its size, its hash."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a complete folder holds. `requested` is the revision asked for, `revision` the one that was had.

    `source` repeats the source for people; `created_s` is seconds since the epoch.
    """

    model_id: str
    source: str
    requested: str | None
    revision: str
    created_s: float
    files: tuple[ManifestFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def describe_folder(folder: Path, progress: Progress) -> tuple[ManifestFile, ...]:
    """Size and hash of every file in `folder`, by name; the manifest itself is left out."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    total_bytes = sum(path.stat().st_size for path in paths)
    files = []
    done_bytes = 0
    for path in paths:
        digest = hashlib.sha256()
        size_bytes = 0
        for block in _blocks(path):
            digest.update(block)
            size_bytes += len(block)
            progress("hashing", done_bytes + size_bytes, total_bytes)
        done_bytes += size_bytes
        files.append(ManifestFile(name=path.name, size_bytes=size_bytes, sha256=digest.hexdigest()))
    return tuple(files)


def sha256_of(path: Path) -> str:
    """The sha256 of one file, in hex."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into `folder` and make it durable."""
    document = {"version": MANIFEST_VERSION, **asdict(manifest)}
    with (folder / MANIFEST_NAME).open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of `folder`, or None where there is none that can be read."""
    path = folder / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            return None
        return parse_manifest(path.read_bytes())
    except (OSError, ValueError):
        return None


def parse_manifest(text: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: this is not a manifest of this version.
    """
    try:
        document = json.loads(text)
        if document.pop("version") != MANIFEST_VERSION:
            raise ValueError("another version")
        files = tuple(ManifestFile(**file) for file in document.pop("files"))
        return Manifest(files=files, **document)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a manifest: {error}") from error


def sizes_match(folder: Path, manifest: Manifest) -> bool:
    """Whether every file of the manifest is there with its size: the quick check made at every look."""
    try:
        return all((folder / file.name).stat().st_size == file.size_bytes for file in manifest.files)
    except OSError:
        return False


def check_hashes(folder: Path, expected: tuple[ManifestFile, ...], progress: Progress) -> None:
    """Rehash `folder` and compare.

    Raises:
        ModelStoreError: a file is missing, or its content is not what the manifest promised.
    """
    found = {file.name: file for file in describe_folder(folder, progress)}
    for file in expected:
        if found.get(file.name) != file:
            problem = "is not what its manifest says" if file.name in found else "is missing"
            raise store_error(
                f"{folder / file.name} {problem}",
                "remove the model and pull it again (longreach models remove MODEL; longreach models pull MODEL)",
            )


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            yield block
