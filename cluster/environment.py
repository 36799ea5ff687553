"""The one place where the process environment is read.

What must not live here: settings (they are in the configuration file) and anything read at import time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from cluster.core.errors import SetupError

CREDENTIAL_VARIABLE = "LONGREACH_REPLICA_CREDENTIAL"
"""The cluster's secret, for its gateways and replicas: never in an argument, a log or a file others can read."""

PARENT_VARIABLE = "LONGREACH_GATEWAY_PARENT"
"""By which a gateway's worker knows its parent process; set by the parent alone, for this one run."""

DRAIN_DIR_VARIABLE = "LONGREACH_DRAIN_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What Longreach takes from the environment.

    `LONGREACH_CACHE` and `LONGREACH_STATE` move the folders for models and for running clusters; `HF_ENDPOINT`,
    `HF_TOKEN_PATH`, `HF_HUB_OFFLINE` and `HF_HOME` mean what they mean to the model hub's own tools.
    """

    cache_folder: Path | None
    """None where nothing says where, not even a home directory: a container's user may have none."""
    state_folder: Path | None
    hub_endpoint: str | None
    hub_token_file: Path | None
    hub_offline: bool
    replica_credential: str | None = field(repr=False)
    """What a gateway shows to replicas and a replica asks of gateways; None where no cluster gave one."""
    drain_dir: Path
    """Where the replicas of this container meet who asks them to drain (`LONGREACH_DRAIN_DIR`)."""
    ray_cluster: str
    """The Ray cluster this process belongs to, as KubeRay names it in every pod (`RAY_CLUSTER_NAME`); else empty."""
    otlp_endpoint: str | None
    """Of an OpenTelemetry collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); exporters read the other variables so named."""
    otlp_protocol: str | None
    in_pod: bool
    """Whether this is a pod of Kubernetes (`KUBERNETES_SERVICE_HOST` is in every one)."""
    variables: Mapping[str, str] = field(repr=False)
    """All of them, secrets too."""

    @property
    def cache_home(self) -> Path:
        """The folder for models and what else can be fetched again.

        Raises:
            SetupError: nothing says where it is.
        """
        return _named(self.cache_folder, "LONGREACH_CACHE")

    @property
    def state_home(self) -> Path:
        """The folder for clusters and their gateways' journals.

        Raises:
            SetupError: nothing says where it is.
        """
        return _named(self.state_folder, "LONGREACH_STATE")

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
        cache_folder=_folder(env.get("LONGREACH_CACHE"), platformdirs.user_cache_path),
        state_folder=_folder(env.get("LONGREACH_STATE"), platformdirs.user_state_path),
        hub_endpoint=env.get("HF_ENDPOINT"),
        hub_token_file=Path(token) if token else None,
        hub_offline=env.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"},
        replica_credential=env.get(CREDENTIAL_VARIABLE) or None,
        # Not below the state folder: in a pod that may be a volume that several containers share.
        drain_dir=Path(env.get(DRAIN_DIR_VARIABLE) or f"/tmp/longreach-drain-{os.getuid()}"),  # noqa: S108 - made 0700
        ray_cluster=env.get("RAY_CLUSTER_NAME", ""),
        otlp_endpoint=_otlp_endpoint(env),
        otlp_protocol=env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or None,
        in_pod="KUBERNETES_SERVICE_HOST" in env,
        variables=env,
    )


def _otlp_endpoint(env: Mapping[str, str]) -> str | None:
    is_off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "").lower() == "none"
    named = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return None if is_off else named or None


def take_parent_token() -> str | None:
    """What this worker's parent will show, taken out of the environment so that nothing started from here has it."""
    return os.environ.pop(PARENT_VARIABLE, None) or None


def _folder(named: str | None, usual: Callable[[str], Path]) -> Path | None:
    if named:
        return Path(named)
    try:
        return usual("longreach")
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        return None


def _named(folder: Path | None, variable: str) -> Path:
    if folder is None:
        raise SetupError("this user has no home directory", f"set {variable} to a folder that it may write")
    return folder
