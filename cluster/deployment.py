"""What a running cluster was made from: the config file, the stores' addresses, the folder of every model.

`longreach up` writes it; the driver that applies the pools and the gateway read it. What must not live here: how
any of it is started.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.core.errors import SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The file `deployment.json` in a cluster's run folder."""

    config_path: str
    state_url: str | None
    """The state store that came with the cluster; None where the configuration names one or none is needed."""
    model_folders: dict[str, str]
    """Model id to the folder with its weights and tokenizer; models of static pools may be absent."""
    cache_url: str | None = None
    """The server for KV blocks that came with the cluster; None where the configuration names one or none is needed."""

    def save(self, path: Path) -> None:
        """Write the file in one step, so that a reader never sees half of it."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        partial.replace(path)


def load_deployment(path: Path) -> Deployment:
    """Read a deployment file.

    Raises:
        SetupError: there is no such file, or it was written by another version.
    """
    try:
        return Deployment(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{path} cannot be read: {error}", "run `longreach down`, then `longreach up`") from error
