"""A catalog model in a store, at a revision that the catalog's card does not describe.

What must not live here: tests.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore

REVISION = "another"
"""Its chat template names no tool parser, unlike that of the catalog's revision."""


def store_with_revision(root: Path) -> ModelStore:
    """A store that has `tiny` twice."""
    store = ModelStore(root, settings=HubSettings())
    landed = store.pull("tiny")
    other = landed.with_name(REVISION)
    shutil.copytree(landed, other)
    # Of the same size, by which a copy is found to be complete.
    for name, old, new in [
        ("longreach-manifest.json", f'"{landed.name}"', f'"{REVISION}"'),
        ("chat_template.jinja", "tool_call>", "tool-call>"),
    ]:
        text = (other / name).read_text(encoding="utf-8")
        assert old in text
        (other / name).write_text(text.replace(old, new), encoding="utf-8")
    return store
