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

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file of the cluster; its name says which one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="Address of the gateway; default: the local cluster's.", metavar="URL")
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Model name; default: the first on the list.")]


def run_dir(config: Path | None) -> RunDir:
    """The run folder of the cluster that `config` names.

    Without a configuration it is the default one, or the only one that was started.

    Raises:
        ConfigError: the configuration has mistakes.
    """
    from cluster.config import load_config
    from cluster.environment import read_environment
    from cluster.local.rundir import RunDir

    environment = read_environment()
    if config is not None:
        return RunDir(root=environment.run_dir(load_config(config).cluster.name).absolute())
    default = RunDir(root=environment.run_dir(DEFAULT_CLUSTER).absolute())
    if not default.journal.exists() and environment.state_home.is_dir():
        started = [path.parent for path in environment.state_home.glob("*/processes.json")]
        if len(started) == 1:
            return RunDir(root=started[0].absolute())
    return default


def gateway_url(url: str | None) -> str:
    """The gateway's address: what was asked for, else the running local cluster's, else the default."""
    from cluster.local.journal import read_journal

    if url is not None:
        return url
    journal = read_journal(run_dir(None).journal)
    return journal.url if journal is not None and journal.url else DEFAULT_URL


def program() -> str:
    """How this program was called, for lines to copy."""
    called = sys.argv[0]
    return called if Path(called).name == "longreach" and "/" in called else "longreach"


def print_json(data: Mapping[str, Any] | list[Any]) -> None:
    """Print data for programs."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
