"""The card of the model a values file is for.

What must not live here: downloading; what is sized with the card (values.py).
"""

from __future__ import annotations

from pathlib import Path

from cluster.core.errors import SetupError
from cluster.models.card import FolderSource, ModelCard
from cluster.models.folder import card_from_folder
from cluster.models.sources import refer


def card_of(name: str) -> ModelCard:
    """What is known of a model by its catalog id, its hub id, or its folder.

    Raises:
        SetupError: the catalog does not have it, so what it takes is not known.
        ModelStoreError: the name means nothing, or the folder has no model.
    """
    reference = refer(name)
    if reference.entry is not None:
        return reference.entry
    if isinstance(reference.source, FolderSource):
        return card_from_folder(Path(reference.source.path).expanduser().resolve())
    raise SetupError(
        f"what {name} takes is not known: it is not in the catalog",
        f"fetch it (`longreach models pull {name}`) and name its folder, which `longreach models path {name}` prints",
    )
