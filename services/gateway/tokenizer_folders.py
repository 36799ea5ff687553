"""Where each model's tokenizer is on this machine.

What must not live here: fetching one (`longreach models pull --tokenizer-only`), loading it (tokenizer.py).
"""

from __future__ import annotations

import logging
from pathlib import Path

from cluster.config import Config
from cluster.core.errors import ModelStoreError, SetupError
from cluster.deployment import Deployment
from cluster.environment import Environment

logger = logging.getLogger(__name__)


def tokenizer_folders(config: Config, deployment: Deployment | None, environment: Environment) -> dict[str, Path]:
    """Folders by model id, of the models whose tokenizer is here.

    Where `longreach up` put the model, else the folder the file names, else what the model store has. Of a model that
    only static endpoints serve the store is asked for its source alone: another engine's model may share a mere id.
    """
    folders = {model.id: Path(model.source) for model in config.models if model.source and _is_folder(model.source)}
    if deployment is not None:
        known = {model.id for model in config.models}
        folders |= {name: Path(folder) for name, folder in deployment.model_folders.items() if name in known}
    served = {pool.model for pool in config.pools if not pool.is_static}
    for model in config.models:
        source = model.source or (model.id if model.id in served else None)
        if model.id not in folders and source is not None:
            found = _in_store(source, model.revision, environment)
            if found is not None:
                folders[model.id] = found
    return folders


def _is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except OSError:  # may not be looked at, or no file could have such a name
        return False


def _in_store(source: str, revision: str | None, environment: Environment) -> Path | None:
    # Imported where it is needed: a gateway in front of other engines has no use for a model store.
    from cluster.models.opening import open_tokenizers

    try:
        return open_tokenizers(environment).path(source, revision=revision)
    except (ModelStoreError, SetupError, OSError) as error:
        logger.info("no tokenizer in the model store: %s", error)
        return None
