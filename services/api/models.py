"""The list of models: every name a client may ask for, across pools.

What must not live here: wire formats.
"""

from __future__ import annotations

from typing import Any

from services.api.gateway import Gateway
from services.gateway.catalog import Catalog, ServedModel
from services.gateway.directory import Directory

CREATED_S = 0
"""OpenAI's form wants a time of creation; nobody knows a model's here, and clients do not read it."""


def entries(gateway: Gateway) -> list[dict[str, Any]]:
    """The model list: ids first, then aliases and adapters, each model's largest context with it."""
    catalog: Catalog = gateway.current.catalog
    return [entry for model in catalog.models for entry in _model_entries(model, gateway.directory)]


def _model_entries(model: ServedModel, directory: Directory) -> list[dict[str, Any]]:
    section = model.section
    pools = sorted(directory.pools(model), key=lambda pool: (pool.context_tokens, pool.name))
    context = {
        "max_model_len": pools[-1].context_tokens,
        "longreach": {"pools": [{"name": pool.name, "context_tokens": pool.context_tokens} for pool in pools]},
    }
    found = [_entry(section.id, root=section.id, parent=None, context=context)]
    found += [_entry(alias, root=section.id, parent=None, context=context) for alias in section.aliases]
    found += [_entry(lora.name, root=lora.name, parent=section.id, context=context) for lora in section.lora]
    return found


def _entry(name: str, *, root: str, parent: str | None, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": CREATED_S,
        "owned_by": "longreach",
        "root": root,
        "parent": parent,
        **context,
    }
