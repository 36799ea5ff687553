"""The stores that an environment names: where the files are, and how the hub is reached.

What must not live here: the stores (store.py, tokenizer_store.py), reading the environment.
"""

from __future__ import annotations

from cluster.environment import Environment
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore, default_root
from cluster.models.tokenizer_store import TokenizerStore


def open_store(environment: Environment) -> ModelStore:
    """The models."""
    return ModelStore(default_root(environment.cache_home), settings=_hub_settings(environment))


def open_tokenizers(environment: Environment) -> TokenizerStore:
    """The tokenizers without weights, beside them."""
    return TokenizerStore(default_root(environment.cache_home), settings=_hub_settings(environment))


def _hub_settings(environment: Environment) -> HubSettings:
    return HubSettings(
        endpoint=environment.hub_endpoint,
        token_file=environment.hub_token_file,
        offline=environment.hub_offline,
    )
