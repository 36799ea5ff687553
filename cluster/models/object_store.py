"""A model folder in an object store, s3:// or gs://, as GPU clusters keep them.

What lives here: listing and copying through fsspec. What must not: credentials (the cloud's own library finds them).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.models.faults import source_away, store_error
from cluster.models.hub import is_wanted
from cluster.models.manifest import MANIFEST_NAME, READ_BYTES, check_hashes, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.models.progress import Progress

PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
LOGINS = {
    "s3fs": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in Kubernetes from a Secret), or its service account's role",
    "gcsfs": "GOOGLE_APPLICATION_CREDENTIALS names a key file (in Kubernetes a mounted Secret), or workload identity",
    "fsspec": "its credentials",
}
"""Where each cloud's library looks first."""
REVISION_LETTERS = 12
LASTING = (FileNotFoundError, PermissionError, NotADirectoryError)
"""What every cloud's library makes of a wrong address or login; the rest, of as many classes as libraries, may pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of the folder."""

    name: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreFetch:
    """A listed folder, ready to come. A manifest among its files (a folder copied from a model store) is checked."""

    filesystem: Any
    files: tuple[StoredFile, ...]
    revision: str

    @property
    def peak_bytes(self) -> int:
        """All wanted files."""
        return sum(file.size_bytes for file in self.files)

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Copy every wanted file, going on where a killed copy stopped."""
        total_bytes = self.peak_bytes
        done_bytes = 0
        for file in self.files:
            target = files / file.name
            if not target.exists():
                part = work / file.name
                part.touch()
                have_bytes = part.stat().st_size
                with part.open("ab") as local:
                    for block in self._rest(file, have_bytes):
                        have_bytes += local.write(block)
                        progress("downloading", done_bytes + have_bytes, total_bytes)
                if have_bytes != file.size_bytes:
                    part.unlink()
                    raise store_error(f"{file.path} has {have_bytes} bytes, {file.size_bytes} listed", "pull again")
                part.rename(target)
            done_bytes += file.size_bytes
        manifest = files / MANIFEST_NAME
        if manifest.exists():
            try:
                expected = parse_manifest(manifest.read_bytes())
            except ValueError as error:
                raise store_error(f"the store's {MANIFEST_NAME} is {error}", "upload the folder again") from error
            fetched = {file.name for file in self.files}
            check_hashes(files, tuple(file for file in expected.files if file.name in fetched), progress)

    def _rest(self, file: StoredFile, have_bytes: int) -> Iterator[bytes]:
        """What the store has of a file after its first bytes."""
        try:
            with self.filesystem.open(file.path, "rb") as remote:
                remote.seek(have_bytes)
                while block := remote.read(READ_BYTES):
                    yield block
        except Exception as error:
            make = store_error if isinstance(error, LASTING) else source_away
            raise make(f"{file.path} stopped at {have_bytes} bytes or later: {error}", "pull again") from error


def open_object_store(url: str) -> ObjectStoreFetch:
    """List the folder at `url`.

    Raises:
        ModelStoreError: fsspec or its cloud package is missing, the folder cannot be read, or has no weights.
    """
    package = PACKAGES.get(url.partition("://")[0], "fsspec")
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise store_error(f"{url} needs the package {package}: {error}", f"pip install {package}") from error
    try:
        entries = filesystem.ls(path, detail=True)
    except Exception as error:  # every cloud's library raises errors of its own
        make = store_error if isinstance(error, LASTING) else source_away
        raise make(
            f"{url} cannot be listed: {error}",
            f"check the address, and that this process may read it: {LOGINS[package]}",
        ) from error
    return _listed(url, filesystem, [entry for entry in entries if entry["type"] == "file"])


def _listed(url: str, filesystem: Any, entries: list[dict[str, Any]]) -> ObjectStoreFetch:
    by_name = {str(entry["name"]).rpartition("/")[2]: entry for entry in entries}
    wanted = sorted(name for name in by_name if is_wanted(name, set(by_name)))
    if not any(name.endswith(".safetensors") for name in wanted):
        raise store_error(
            f"{url} has no safetensors weights", "name the folder that holds config.json and *.safetensors"
        )
    digest = hashlib.sha256()
    for name in wanted:
        entry = by_name[name]
        version = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash") or entry.get("mtime")
        digest.update(f"{name} {entry['size']} {version}\n".encode())
    files = tuple(
        StoredFile(name=name, path=str(by_name[name]["name"]), size_bytes=int(by_name[name]["size"])) for name in wanted
    )
    return ObjectStoreFetch(filesystem=filesystem, files=files, revision=digest.hexdigest()[:REVISION_LETTERS])
