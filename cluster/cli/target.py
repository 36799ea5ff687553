"""Which cluster a command means, and where its gateway is.

What must not live here: doing anything to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cluster.local.rundir import RunDir

DEFAULT_CLUSTER = "local"
"""The name in cluster/local/default.yaml."""
DEFAULT_URL = "http://127.0.0.1:8080"
"""Where a gateway that `up` did not start listens by default."""

DEFAULT_ADMIN_URL = "http://127.0.0.1:8081"
"""Where its admin listener does."""

DEFAULT_GRPC_URL = "grpc://127.0.0.1:8082"
"""Where its gRPC listener does."""

KEY_VARIABLE = "LONGREACH_API_KEY"
"""Where clients' commands find their key."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file of the cluster; its name says which one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Address of the gateway; default: the cluster's.", metavar="URL")
]
GrpcUrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The gateway's address for gRPC; default: the cluster's.", metavar="HOST:PORT"),
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Model name; default: the first on the list.")]
KeyOption = Annotated[
    str | None, typer.Option("--api-key-env", help=f"Variable that holds the API key; default: {KEY_VARIABLE}.")
]
CaOption = Annotated[
    Path | None, typer.Option("--ca-file", help="CA of a gateway with TLS, PEM; default: the usual ones.")
]


def api_key(variable: str | None) -> str | None:
    """The key of the variable that was named, which must be there then; else of the usual one, if it is there.

    Raises:
        SetupError: the variable that was named is not set.
    """
    from cluster.core.errors import SetupError
    from cluster.environment import read_environment

    key = read_environment().secret(variable or KEY_VARIABLE)
    if variable is not None and not key:
        raise SetupError(f"the variable {variable} is not set", f"set {variable} to an API key of the gateway")
    return key


def run_dir(config: Path | None) -> RunDir:
    """The run folder of the cluster that `config` names.

    Without a configuration it is the default one, or the only one that was started.

    Raises:
        ConfigError: the configuration has mistakes.
    """
    from cluster.config import load_config
    from cluster.environment import read_environment
    from cluster.local.rundir import RunDir

    if config is not None:
        return RunDir(root=read_environment().run_dir(load_config(config).cluster.name).absolute())
    default = default_run_dir()
    others = started_besides(default)
    return others[0] if not default.journal.exists() and len(others) == 1 else default


def default_run_dir() -> RunDir:
    """The run folder of the default cluster."""
    from cluster.environment import read_environment
    from cluster.local.rundir import RunDir

    return RunDir(root=read_environment().run_dir(DEFAULT_CLUSTER).absolute())


def started_besides(default: RunDir) -> list[RunDir]:
    """The run folders of this user's other clusters that were started, by name."""
    from cluster.local.rundir import RunDir

    found = sorted(path.parent.absolute() for path in default.root.parent.glob("*/processes.json"))
    return [RunDir(root=root) for root in found if root != default.root]


def gateway_url(url: str | None, config: Path | None) -> str:
    """The gateway's address: what was asked for, else the running cluster's, else where one alone would listen.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: the cluster of `config` does not run, and its port is not fixed.
    """
    from cluster.config import load_config
    from cluster.core.errors import SetupError
    from cluster.local.journal import read_journal

    if url is not None:
        return url
    journal = read_journal(run_dir(config).journal)
    if journal is not None and journal.url:
        return journal.url
    if config is None:
        return DEFAULT_URL
    wanted = load_config(config)
    if wanted.gateway.port == 0:
        raise SetupError(f"cluster {wanted.cluster.name} is not running", f"longreach up --config {config}")
    return f"http://{wanted.gateway.host}:{wanted.gateway.port}"


def admin_url(url: str | None, config: Path | None) -> str:
    """The address of the gateway's admin listener, found as `gateway_url` finds the gateway's.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: the cluster of `config` does not run, and its admin port is not fixed.
    """
    from cluster.config import load_config
    from cluster.core.errors import SetupError
    from cluster.local.gateway_ready import read_ready

    if url is not None:
        return url.rstrip("/")
    told = read_ready(run_dir(config).gateway_ready)
    if "admin_port" in told:
        return f"http://127.0.0.1:{told['admin_port']}"
    if config is None:
        return DEFAULT_ADMIN_URL
    wanted = load_config(config)
    if wanted.gateway.admin_port == 0:
        raise SetupError(f"cluster {wanted.cluster.name} is not running", f"longreach up --config {config}")
    return f"http://{wanted.gateway.admin.host}:{wanted.gateway.admin_port}"


def grpc_url(url: str | None, config: Path | None) -> str:
    """The gateway's address for gRPC, found as `gateway_url` finds the one for REST.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: the gateway serves no gRPC, or the cluster of `config` does not run, and its port is not fixed.
    """
    from cluster.config import load_config
    from cluster.core.errors import SetupError
    from cluster.local.gateway_ready import grpc_url_of, read_ready

    if url is not None:
        return url
    where = run_dir(config)
    running = grpc_url_of(where)
    if running is not None:
        return running
    wanted = None if config is None else load_config(config)
    if read_ready(where.gateway_ready) or (wanted is not None and not wanted.gateway.grpc.enabled):
        raise SetupError("the gateway serves no gRPC", "set gateway.grpc.enabled to true, and start it anew")
    if wanted is None:
        return DEFAULT_GRPC_URL
    if wanted.gateway.grpc_port == 0:
        raise SetupError(f"cluster {wanted.cluster.name} is not running", f"longreach up --config {config}")
    return f"grpc://{wanted.gateway.host}:{wanted.gateway.grpc_port}"


def program() -> str:
    """How this program was called, for lines to copy."""
    called = sys.argv[0]
    return called if Path(called).name == "longreach" and "/" in called else "longreach"


def print_json(data: Mapping[str, Any] | list[Any]) -> None:
    """Print data for programs."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
