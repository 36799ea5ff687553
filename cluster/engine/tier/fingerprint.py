"""What makes KV bytes readable: everything that must be equal for one replica's blocks to be another's.

Two replicas share blocks exactly when their fingerprints are equal. A field too many costs shared prefixes, a field too
few costs right answers. What must not live here: vLLM's objects, Redis.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.core.tier.keys import FINGERPRINT_DIGITS
from cluster.models.manifest import MANIFEST_NAME, describe_folder, read_manifest, sizes_match

WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".gguf", ".pt", ".json"})
"""What decides the numbers a model computes; a README or a chat template does not."""


def fingerprint_of(fields: Mapping[str, Any]) -> str:
    """The fingerprint over these fields; their order does not matter."""
    text = json.dumps(dict(fields), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def content_digest(folder: Path) -> str:
    """Hex digest of a model's or adapter's content.

    Taken from the manifest where Longreach fetched the model; any other folder is read whole, since a fine-tune may
    differ from its base in nothing but a few weights.

    Raises:
        OSError: the folder cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is not None and sizes_match(folder, manifest):
        files = manifest.files
    else:
        files = describe_folder(folder, lambda *_: None)
    listed = sorted(
        f"{file.name}\0{file.sha256}"
        for file in files
        if Path(file.name).suffix in WEIGHT_SUFFIXES and file.name != MANIFEST_NAME
    )
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()
