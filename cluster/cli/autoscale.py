"""`longreach autoscale`: why pools have as many replicas as they have, and pinning a number.

What must not live here: the state store (cluster/local/autoscaling.py), tables (autoscale_view.py), deciding.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir

if TYPE_CHECKING:
    from cluster.local.autoscaling import Autoscaling

app = typer.Typer(help="See why pools have as many replicas as they have, and pin a number.", no_args_is_help=True)
PAST_SHOWN = 5
WATCH_S = 1.0
PoolArgument = Annotated[str, typer.Argument(help="Its name.")]


@app.command()
def explain(
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="Only this pool.")] = None,
    past: Annotated[
        int, typer.Option("--past", min=0, max=50, help="How many of the last decisions of each to show.")
    ] = PAST_SHOWN,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking, until Ctrl-C.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show each pool's work, what it needs now and ahead, the decision, its reason, and the last decisions."""
    from rich.console import Console
    from rich.live import Live

    from cluster.cli.autoscale_view import autoscale_view
    from cluster.local.autoscaling import as_json

    if json and watch:
        raise typer.BadParameter("--watch shows tables: leave --json or --watch out")
    found = _found(config)
    if json:
        print_json({"cluster": found.config.cluster.name, "pools": as_json(found.explain(pool, past_max=past))})
        return
    console = Console()
    if not watch:
        console.print(autoscale_view(found.explain(pool, past_max=past)))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(autoscale_view(found.explain(pool, past_max=past)), refresh=True)
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return


@app.command()
def pin(
    pool: PoolArgument,
    replicas: Annotated[int, typer.Argument(min=0, help="How many, within the pool's replicas.min and replicas.max.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Have so many replicas of a pool, whatever the load, until `unpin`."""
    _found(config).pin(pool, replicas)
    if json:
        print_json({"pool": pool, "pinned": replicas})
    else:
        typer.echo(f"Pool {pool} is pinned to {replicas} replicas, until `longreach autoscale unpin {pool}`")


@app.command()
def unpin(pool: PoolArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let the load decide again."""
    _found(config).pin(pool, None)
    if json:
        print_json({"pool": pool, "pinned": None})
    else:
        typer.echo(f"Pool {pool} has as many replicas as its load wants")


def _found(config: Path | None) -> Autoscaling:
    from cluster.environment import read_environment
    from cluster.local.autoscaling import find_autoscaling

    return find_autoscaling(run_dir(config), config, read_environment())
