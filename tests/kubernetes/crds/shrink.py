"""Makes the compact CRDs of this folder from KubeRay's YAML: `python tests/kubernetes/crds/shrink.py FOLDER`.

Only the schema of the version that the chart uses is kept, without its descriptions, which are nine tenths of it. The
same input gives the same bytes, so that a test can compare.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERAY = "1.7.0"
KINDS = ("rayclusters", "rayservices")
API_VERSION = "v1"


def shrunk(upstream: Path) -> bytes:
    """One CRD as gzipped JSON: group, kind, version and the OpenAPI schema."""
    crd = yaml.load(upstream.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    (version,) = (one for one in crd["spec"]["versions"] if one["name"] == API_VERSION)
    kept = {
        "group": crd["spec"]["group"],
        "kind": crd["spec"]["names"]["kind"],
        "version": API_VERSION,
        "schema": _without_descriptions(version["schema"]["openAPIV3Schema"]),
    }
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True)
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def upstream_path(folder: Path, kind: str) -> Path:
    """Where a folder has KubeRay's YAML of a kind."""
    return folder / f"ray.io_{kind}.v{KUBERAY}.yaml"


def kept_path(kind: str) -> Path:
    """Where this folder has the compact one."""
    return Path(__file__).parent / f"ray.io_{kind}.json.gz"


def _without_descriptions(schema: Any, *, names: bool = False) -> Any:
    """A property may itself be called `description`: below `properties` every key is a name."""
    if isinstance(schema, list):
        return [_without_descriptions(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_descriptions(value, names=key == "properties" and not names)
        for key, value in schema.items()
        if names or key != "description"
    }


def main() -> None:
    (folder,) = sys.argv[1:]
    for kind in KINDS:
        kept_path(kind).write_bytes(shrunk(upstream_path(Path(folder), kind)))


if __name__ == "__main__":
    main()
