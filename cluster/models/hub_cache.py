"""The hub client's cache on this machine, for machines without a hub.

What lives here: finding a repository in that cache and taking its wanted files. What must not: any network.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.models.faults import store_error
from cluster.models.hub import AIR_GAP_REMEDY, is_wanted

if TYPE_CHECKING:
    from cluster.models.hub import HubSettings
    from cluster.models.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFetch:
    """A snapshot in the hub client's cache; its folder is named after the commit."""

    snapshot: Path
    names: tuple[str, ...]

    @property
    def revision(self) -> str:
        """The commit."""
        return self.snapshot.name

    @property
    def peak_bytes(self) -> int:
        """All wanted files, in case they cannot be linked."""
        return sum((self.snapshot / name).stat().st_size for name in self.names)

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """Take the files: a hard link where the cache is on the same disk, a copy elsewhere."""
        total_bytes = self.peak_bytes
        done_bytes = 0
        for name in self.names:
            origin = (self.snapshot / name).resolve()
            if not (files / name).exists():
                try:
                    os.link(origin, files / name)
                except OSError:
                    shutil.copyfile(origin, work / name)
                    (work / name).rename(files / name)
            done_bytes += origin.stat().st_size
            progress("taking from the hub cache", done_bytes, total_bytes)


def find_in_cache(repository: str, revision: str | None, settings: HubSettings) -> CacheFetch:
    """The repository's snapshot in the hub client's cache.

    Raises:
        ModelStoreError: the cache does not have it with weights.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(
            snapshot_download(repository, revision=revision, cache_dir=settings.cache_dir, local_files_only=True)
        )
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise store_error(
            f"{repository} is not in the hub cache of this machine, and the hub is not to be asked (offline)",
            AIR_GAP_REMEDY,
        ) from error
    present = {path.name for path in snapshot.iterdir() if path.is_file()}
    names = tuple(sorted(name for name in present if is_wanted(name, present)))
    if not any(name.endswith(".safetensors") for name in names):
        raise store_error(f"the hub cache has {repository} without its safetensors weights", AIR_GAP_REMEDY)
    return CacheFetch(snapshot=snapshot, names=names)
