"""The card of a model that is planned for: its weights need not be here.

What must not live here: what a card is (cluster/models).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster.core.errors import ModelStoreError, SetupError
from cluster.environment import read_environment
from cluster.models.card import FolderSource, ModelCard
from cluster.models.folder import card_from_folder
from cluster.models.opening import open_store
from cluster.models.sources import refer
from cluster.planner.weights import estimated_weights_bytes


def planned_card(name: str) -> ModelCard:
    """What is known of a model by its catalog id, its hub id (its configuration is read there), or a folder.

    A folder may hold config.json alone: the weights are then reckoned from the sizes in it.

    Raises:
        SetupError: what it takes cannot be known.
        ModelStoreError: the name means nothing, or its source has no such model.
    """
    reference = refer(name)
    if reference.entry is not None:
        return reference.entry
    if not isinstance(reference.source, FolderSource):
        try:
            return open_store(read_environment()).resolve(name)
        except ModelStoreError as error:
            raise ModelStoreError(
                f"{error}\n  or: save its config.json into a folder, and plan with that: --model ./FOLDER"
            ) from error
    folder = Path(reference.source.path).expanduser().resolve()
    if any(folder.glob("*.safetensors")):
        return card_from_folder(folder)
    card = card_from_folder(folder, weights_bytes=0)
    weights_bytes = estimated_weights_bytes(card)
    if weights_bytes is None:
        raise SetupError(
            f"{folder} has no weights, and its config.json does not tell what they take",
            "put the model's *.safetensors there, or name its hub id",
        )
    return replace(card, weights_bytes=weights_bytes)
