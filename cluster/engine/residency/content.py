"""Names models and adapters by their content, so that equal names mean equal cache blocks for equal text.

What must not live here: what is done with the names (cluster/core/prefix/chain.py makes roots of them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cluster.models.manifest import MANIFEST_NAME, read_manifest, sha256_of

DIGEST_CHARACTERS = 32
"""Of SHA-256 in hex: 128 bits, as many as a chain's digests keep."""
HASHED = frozenset({"tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja", "vocab.json"})
"""Small files that decide how a text becomes tokens: hashed. Weights without a manifest are known by size and time."""


def model_digest(folder: Path) -> str:
    """Of the weights, the tokenizer and the template in `folder`: from its manifest, or from the files themselves.

    Without a manifest the weights' times count, which differ between machines: then replicas there share no chains.

    Raises:
        OSError: the folder cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return _digest(f"{file.name} {file.size_bytes} {file.sha256}" for file in manifest.files)
    lines = []
    for path in _files(folder):
        stat = path.stat()
        what = sha256_of(path) if path.name in HASHED else f"{stat.st_mtime_ns}"
        lines.append(f"{path.name} {stat.st_size} {what}")
    return _digest(lines)


def adapter_digest(folder: Path) -> str:
    """Of every file of a LoRA adapter.

    Raises:
        OSError: the folder cannot be read.
    """
    return _digest(f"{path.name} {path.stat().st_size} {sha256_of(path)}" for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_NAME)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:DIGEST_CHARACTERS]
