"""What a model's source has beside weights: configuration, tokenizer, chat template.

What lives here: from a fetch of everything to a fetch of these. What must not: where they are kept
(tokenizer_store.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cluster.models.card import GeneratedSource
from cluster.models.hub import HubFetch
from cluster.models.hub_cache import CacheFetch
from cluster.models.object_store import ObjectStoreFetch
from cluster.models.sources import open_fetch
from cluster.models.tiny import write_small_files
from cluster.models.wheels import WheelsFetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cluster.models.fetch import Fetch
    from cluster.models.hub import HubSettings
    from cluster.models.progress import Progress
    from cluster.models.sources import Reference

WEIGHTS = (".safetensors", ".safetensors.index.json")
GENERATED_BYTES = 2 << 20
"""The generated tokenizer, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFetch:
    """A fetch of a source that makes its files, or takes them out of something larger."""

    revision: str
    peak_bytes: int
    write: Callable[[Path, Path, Progress], None]

    def into(self, files: Path, work: Path, progress: Progress) -> None:
        """As `Fetch.into`."""
        self.write(files, work, progress)


def is_small(name: str) -> bool:
    """Whether a file of a model is of use without the weights."""
    return not name.endswith(WEIGHTS)


def open_small_files(reference: Reference, settings: HubSettings, progress: Progress) -> Fetch:
    """Ask the model's source what it has beside weights.

    Raises:
        ModelStoreError: the source cannot be reached or does not have the model.
    """
    if isinstance(reference.source, GeneratedSource):
        return SmallFetch(
            revision=reference.source.revision,
            peak_bytes=GENERATED_BYTES,
            write=lambda files, _work, _progress: write_small_files(files),
        )
    fetch = open_fetch(reference, settings, progress)
    match fetch:
        case HubFetch(listing=listing):
            kept = tuple(file for file in listing.files if is_small(file.name))
            return replace(fetch, listing=replace(listing, files=kept))
        case CacheFetch(names=names):
            return replace(fetch, names=tuple(filter(is_small, names)))
        case ObjectStoreFetch(files=files):
            return replace(fetch, files=tuple(file for file in files if is_small(file.name)))
        case WheelsFetch():
            return SmallFetch(revision=fetch.revision, peak_bytes=fetch.first_piece_bytes, write=fetch.small_files_into)
    raise TypeError(f"{type(fetch).__name__} is no source that is known here")
