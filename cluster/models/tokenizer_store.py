"""Tokenizers and chat templates without weights, for gateways: a store of its own below the models'.

    <root>/.tokenizers/<folder>/<revision>/   config, tokenizer files, chat template, manifest; no weights

The model store looks at no folder whose name begins with a dot, so none of these is ever taken for a model. What must
not live here: how a source gives its small files (small_files.py), what a gateway does with them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.models.arrival import arrive
from cluster.models.card import FolderSource
from cluster.models.faults import store_error
from cluster.models.folder import card_from_folder
from cluster.models.inventory import copies_of
from cluster.models.landing import TOKENIZERS_NAME
from cluster.models.progress import silent
from cluster.models.small_files import open_small_files
from cluster.models.sources import refer

if TYPE_CHECKING:
    from cluster.models.hub import HubSettings
    from cluster.models.progress import Progress


class TokenizerStore:
    """The tokenizers of the model store at `root`; a model that is there whole has its own."""

    def __init__(self, root: Path, *, settings: HubSettings) -> None:
        self._models = root
        self._root = root / TOKENIZERS_NAME
        self._settings = settings

    def path(self, source: str, *, revision: str | None = None) -> Path | None:
        """The folder with this model's tokenizer; None where it is not on this machine. Asks nobody.

        Raises:
            ModelStoreError: `source` names no model.
        """
        reference = refer(source, revision)
        if isinstance(reference.source, FolderSource):
            folder = Path(reference.source.path).expanduser().resolve()
            return folder if folder.is_dir() else None
        copies = copies_of(self._models, reference) or copies_of(self._root, reference)
        return copies[0].path if copies else None

    def pull(self, source: str, *, revision: str | None = None, progress: Progress = silent) -> Path:
        """Bring a model's tokenizer here, unless it or the whole model is; the folder.

        Raises:
            ModelStoreError: as `ModelStore.pull`.
        """
        reference = refer(source, revision)
        here = self.path(source, revision=revision)
        if here is not None:
            return here
        if isinstance(reference.source, FolderSource):
            raise store_error(
                f"{reference.source.path} is not a folder", "name a folder with config.json and tokenizer files in it"
            )
        return arrive(
            self._root,
            reference,
            lambda: open_small_files(reference, self._settings, progress),
            # Only the configuration is looked at: what it says of weights it says of those that are elsewhere.
            check=partial(card_from_folder, weights_bytes=0),
            progress=progress,
        )
