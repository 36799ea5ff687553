"""`longreach logs`: the logs of a pool's replicas, the gateway, Ray or the Redis servers.

What must not live here: where logs are (cluster/local/logfiles.py).
"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.target import ConfigOption, run_dir


def logs(
    name: Annotated[str, typer.Argument(help="A pool's name, or gateway, ray, apply, redis, cache.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with, of each file.")] = 100,
    config: ConfigOption = None,
) -> None:
    """Print the log of a pool's replicas, the gateway, Ray or Redis."""
    from cluster.local.logfiles import follow_logs, last_lines, log_files

    where = run_dir(config)
    files = log_files(where, name)
    for path in files:
        if len(files) > 1:
            typer.echo(f"==> {path} <==")
        for line in last_lines(path, lines):
            typer.echo(line)
    if not follow:
        return
    try:
        for path, line in follow_logs(where, name, files):
            prefix = f"{path.stem}: " if len(files) > 1 else ""
            typer.echo(f"{prefix}{line}")
    except KeyboardInterrupt:
        return
