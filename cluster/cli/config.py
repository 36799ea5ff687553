"""`longreach config`: check a file, show what is in force, print the schema, make a running cluster read it again.

What must not live here: the schema (cluster/config.py), reloading (cluster/local/reload.py).
"""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir

app = typer.Typer(help="Check, show and reload the configuration.", no_args_is_help=True)
EXIT_MISTAKES = 2
AFTER_RESTART = "longreach down, longreach up"


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file.", metavar="FILE")], json: JsonOption = False
) -> None:
    """Check a file; every mistake is named with its line and field."""
    from cluster.config import load_config
    from cluster.core.errors import ConfigError

    try:
        config = load_config(file)
    except ConfigError as error:
        if not json:
            raise
        print_json({"ok": False, "file": str(file), "mistakes": [asdict(mistake) for mistake in error.mistakes]})
        raise typer.Exit(EXIT_MISTAKES) from error
    if json:
        print_json({"ok": True, "file": str(file), "mistakes": []})
    else:
        pools = ", ".join(f"{pool.name} ({pool.context_tokens:,} tokens)" for pool in config.pools)
        typer.echo(f"{file}: fine. Cluster {config.cluster.name}, pools {pools}")
        if config.needs_cache:
            tiers = ", ".join(pool.name for pool in config.pools if pool.has_tier)
            typer.echo(
                f"KV blocks of {tiers} go to a server that `longreach up` brings along; a cluster on several machines "
                "does not start without redis.cache_url"
            )


@app.command()
def schema() -> None:
    """Print the JSON schema of the file, with every key's meaning."""
    from cluster.config import Config

    typer.echo(jsonlib.dumps(Config.model_json_schema(), indent=2))


@app.command()
def show(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the configuration in force, defaults included: of FILE, else of the running cluster, else the default."""
    import yaml

    from cluster.config import load_config
    from cluster.local.up import DEFAULT_CONFIG

    running = run_dir(None).config
    path = config or (running if running.exists() else DEFAULT_CONFIG)
    data = load_config(path).model_dump(mode="json")
    if json:
        print_json(data)
    else:
        typer.echo(f"# {path}\n" + yaml.safe_dump(data, sort_keys=False), nl=False)


@app.command()
def reload(
    config: ConfigOption = None,
    json: JsonOption = False,
    roll: Annotated[
        bool, typer.Option("--roll", help="Replace replicas, one after another, where pools[].engine has changed.")
    ] = False,
) -> None:
    """Make the running cluster read its file again: what can change without a restart does."""
    from cluster.environment import read_environment
    from cluster.local.reload import reload as apply_changes

    result = apply_changes(run_dir(config), config, read_environment(), rolls=roll)
    if json:
        print_json(asdict(result))
        return
    for change in result.applied:
        typer.echo(f"changed   {change}")
    for change in result.waiting:
        remedy = "--roll, or after longreach down, longreach up" if change.endswith(".engine") else AFTER_RESTART
        typer.echo(f"waits     {change} (takes effect with {remedy})")
    if not result.applied and not result.waiting:
        typer.echo("nothing has changed")
