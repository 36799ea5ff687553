"""The one place where the process environment is read.

What must not live here: settings (they are in the configuration file) and anything read at import time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

CREDENTIAL_VARIABLE = "LONGREACH_REPLICA_CREDENTIAL"
"""The cluster's secret, for its gateways and replicas: never in an argument, a log or a file others can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What Longreach takes from the environment.

    `LONGREACH_CACHE` and `LONGREACH_STATE` move the folders for models and for running clusters; `HF_ENDPOINT`,
    `HF_TOKEN_PATH`, `HF_HUB_OFFLINE` and `HF_HOME` mean what they mean to the model hub's own tools.
    """

    cache_home: Path
    state_home: Path
    hub_endpoint: str | None
    hub_token_file: Path | None
    hub_offline: bool
    replica_credential: str | None
    """What a gateway shows to replicas and a replica asks of gateways; None where no cluster gave one."""
    variables: Mapping[str, str]

    def run_dir(self, cluster: str) -> Path:
        """Where a local cluster keeps its sockets, logs and process list."""
        return self.state_home / cluster

    def secret(self, name: str) -> str | None:
        """The value of a variable that the configuration names as a secret's holder."""
        return self.variables.get(name)


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the environment, the process's own by default."""
    env = dict(os.environ if variables is None else variables)
    token = env.get("HF_TOKEN_PATH")
    return Environment(
        cache_home=Path(env.get("LONGREACH_CACHE") or platformdirs.user_cache_path("longreach")),
        state_home=Path(env.get("LONGREACH_STATE") or platformdirs.user_state_path("longreach")),
        hub_endpoint=env.get("HF_ENDPOINT"),
        hub_token_file=Path(token) if token else None,
        hub_offline=env.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"},
        replica_credential=env.get(CREDENTIAL_VARIABLE) or None,
        variables=env,
    )
