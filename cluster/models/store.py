"""The model store: which models are on this machine, and bringing, checking and removing them.

What lives here: the operations behind `longreach models`. What must not: how a source is fetched (hub.py, wheels.py,
object_store.py, tiny.py), how a folder lands (landing.py), and anything drawn on a terminal.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.core.errors import ModelStoreError
from cluster.models.arrival import arrive
from cluster.models.card import FolderSource, HubSource
from cluster.models.catalog import CATALOG
from cluster.models.faults import store_error
from cluster.models.folder import card_from_folder
from cluster.models.hub import HubFetch
from cluster.models.inventory import all_copies, copies_of, folder_name
from cluster.models.landing import TOKENIZERS_NAME, model_lock, partial_folder, partial_folders
from cluster.models.manifest import check_hashes
from cluster.models.progress import folder_bytes, silent
from cluster.models.sources import Reference, open_fetch, open_hub, refer, source_text

if TYPE_CHECKING:
    from cluster.models.card import ModelCard
    from cluster.models.hub import HubSettings
    from cluster.models.inventory import Copy
    from cluster.models.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model as the store sees it.

    `path` and `revision` are those of the copy that would be used, None where there is none; `size_bytes` counts all
    complete revisions, `partial_bytes` what unfinished pulls have left for the next one.
    """

    card: ModelCard
    complete: bool
    path: Path | None
    revision: str | None
    size_bytes: int
    partial_bytes: int


def default_root(cache_home: Path) -> Path:
    """Where models are kept: `cache_home` is Longreach's own cache folder, ~/.cache/longreach by default."""
    return cache_home / "models"


class ModelStore:
    """Models under one root folder; several processes may use the same root at once."""

    def __init__(self, root: Path, *, settings: HubSettings) -> None:
        self._root = root
        self._settings = settings

    @property
    def root(self) -> Path:
        """The folder all models are in."""
        return self._root

    def resolve(self, source: str, *, revision: str | None = None) -> ModelCard:
        """The card of a catalog id, a hub id, a folder or an object-store address.

        For a hub model that is not here yet, its configuration files (not its weights) are read from the hub.

        Raises:
            ModelStoreError: there is no such model, or it cannot be looked at from here.
        """
        reference = refer(source, revision)
        if isinstance(reference.source, FolderSource):
            return card_from_folder(_folder_in_place(reference.source), source=reference.source)
        copies = copies_of(self._root, reference)
        if reference.known_card is not None:
            return reference.known_card
        if copies:
            return _card_of(copies[0], reference)
        if isinstance(reference.source, HubSource):
            return self._card_from_hub(reference, reference.source)
        raise _absent(reference)

    def list(self) -> tuple[ModelStatus, ...]:
        """The catalog, then further models on disk, with what each takes there."""
        copies: dict[str, tuple[Copy, ...]] = {card.id: () for card in CATALOG}
        for copy in all_copies(self._root):
            model_id = copy.manifest.model_id
            copies[model_id] = (*copies.get(model_id, ()), copy)
        return tuple(self._status(_reference_of(model_id), found) for model_id, found in copies.items())

    def path(self, model: str, *, revision: str | None = None) -> Path:
        """The folder to load `model` from.

        Raises:
            ModelStoreError: it is not on this machine; the remedy names the pull.
        """
        reference = refer(model, revision)
        if isinstance(reference.source, FolderSource):
            return _folder_in_place(reference.source)
        copies = copies_of(self._root, reference)
        if not copies:
            raise _absent(reference)
        return copies[0].path

    def pull(self, model_id_or_source: str, *, revision: str | None = None, progress: Progress = silent) -> Path:
        """Bring a model here, unless it is; the folder to load it from.

        A copy that is here already is taken without asking its source: to follow a branch that has moved, remove the
        model first. A pull that was killed goes on where it stopped. A second process that pulls the same model waits
        for the first and takes what it brought.

        Raises:
            ModelStoreError: the source cannot be reached, the disk is too small, or what came is not what was promised.
        """
        reference = refer(model_id_or_source, revision)
        if isinstance(reference.source, FolderSource):
            return _folder_in_place(reference.source)
        return arrive(
            self._root,
            reference,
            lambda: open_fetch(reference, self._settings, progress),
            check=card_from_folder,  # refuses what vLLM could not load
            progress=progress,
        )

    def verify(self, model: str, *, revision: str | None = None, progress: Progress = silent) -> Path:
        """Read the whole model again and compare every hash with its manifest; the folder that was checked.

        Raises:
            ModelStoreError: the model is not here, or a file has changed.
        """
        reference = refer(model, revision)
        copies = copies_of(self._root, reference)
        if not copies:
            raise _absent(reference)
        check_hashes(copies[0].path, copies[0].manifest.files, progress)
        return copies[0].path

    def remove(self, model: str) -> int:
        """Delete every revision of a model, its tokenizer, and what unfinished pulls left; the bytes that frees.

        Raises:
            ModelStoreError: the model is a folder outside the store, which is not the store's to delete.
        """
        reference = refer(model)
        if isinstance(reference.source, FolderSource):
            raise store_error(f"{model} is your own folder, not the store's", "delete it yourself if it is to go")
        name = folder_name(reference.id)
        return sum(_remove(root, name) for root in (self._root, self._root / TOKENIZERS_NAME))

    def _status(self, reference: Reference, copies: tuple[Copy, ...]) -> ModelStatus:
        usable = copies_of(self._root, reference) if copies else ()
        partials = partial_folders(self._root, folder_name(reference.id))
        return ModelStatus(
            card=reference.entry or _card_of(copies[0], reference),
            complete=bool(usable),
            path=usable[0].path if usable else None,
            revision=usable[0].manifest.revision if usable else None,
            size_bytes=sum(copy.manifest.size_bytes for copy in copies),
            partial_bytes=sum(folder_bytes(partial) for partial in partials),
        )

    def _card_from_hub(self, reference: Reference, hub: HubSource) -> ModelCard:
        fetch = open_hub(hub, reference.revision, self._settings, silent)
        if not isinstance(fetch, HubFetch):
            return card_from_folder(
                fetch.snapshot, model_id=reference.id, source=reference.source, revision=fetch.revision
            )
        with tempfile.TemporaryDirectory(prefix="longreach-card-") as scratch:
            files, work = Path(scratch, "files"), Path(scratch, "work")
            files.mkdir()
            work.mkdir()
            fetch.only_small().into(files, work, silent)
            return card_from_folder(
                files,
                model_id=reference.id,
                source=reference.source,
                revision=fetch.revision,
                weights_bytes=fetch.listing.weights_bytes,
            )


def _remove(root: Path, name: str) -> int:
    """Delete what is in the folder `name` under `root`, and what arrivals left; the bytes that frees."""
    folder = root / name
    if not folder.exists() and not partial_folders(root, name):
        return 0
    with model_lock(root, name, silent):
        if folder.exists():
            # Out of sight in one step: a removal that is killed leaves no model with files missing.
            doomed = partial_folder(root, name, "removed")
            doomed.parent.mkdir(exist_ok=True)
            shutil.rmtree(doomed, ignore_errors=True)
            folder.rename(doomed)
        freed_bytes = 0
        for partial in partial_folders(root, name):
            freed_bytes += folder_bytes(partial)
            shutil.rmtree(partial)
        return freed_bytes


def _reference_of(model_id: str) -> Reference:
    """The reference of a model that is on disk; an id that means nothing now (an entry of another version's catalog)
    still has a folder.
    """
    try:
        return refer(model_id)
    except ModelStoreError:
        return Reference(id=model_id, source=FolderSource(path=folder_name(model_id)), asked=None, entry=None)


def _card_of(copy: Copy, reference: Reference) -> ModelCard:
    return card_from_folder(copy.path, model_id=reference.id, source=reference.source, revision=copy.manifest.revision)


def _folder_in_place(source: FolderSource) -> Path:
    """A user's own folder, after a look at whether vLLM could load it."""
    folder = Path(source.path).expanduser().resolve()
    if not folder.is_dir():
        raise store_error(f"{folder} is not a folder", "name a folder with config.json and *.safetensors in it")
    card_from_folder(folder)
    return folder


def _absent(reference: Reference) -> Exception:
    named = reference.id if reference.entry is not None else source_text(reference.source)
    at = f" at revision {reference.asked}" if reference.asked else ""
    option = f" --revision {reference.asked}" if reference.asked else ""
    return store_error(f"the model {named}{at} is not on this machine", f"longreach models pull {named}{option}")
