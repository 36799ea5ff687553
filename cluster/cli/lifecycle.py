"""`longreach up`, `down` and `status`.

What must not live here: how any of it is done (cluster/local).
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import (
    ConfigOption,
    JsonOption,
    default_run_dir,
    print_json,
    program,
    run_dir,
    started_besides,
)

if TYPE_CHECKING:
    from cluster.local.rundir import RunDir
    from cluster.local.up import UpResult

WATCH_INTERVAL_S = 1.0


def up(
    config: ConfigOption = None,
    question: Annotated[bool, typer.Option(help="Ask the model one question at the end.")] = True,
    json: JsonOption = False,
) -> None:
    """Start a cluster on this machine, and ask the model one question."""
    from rich.console import Console

    from cluster.environment import read_environment
    from cluster.local.interrupt import InterruptedBySignal
    from cluster.local.up import DEFAULT_CONFIG
    from cluster.local.up import up as bring_up

    console = Console(stderr=json)
    path = (config or DEFAULT_CONFIG).absolute()
    try:
        result = bring_up(path, read_environment(), console)
    except InterruptedBySignal as interrupted:
        raise typer.Exit(interrupted.exit_status) from interrupted
    answer = None
    if question:
        answer = _first_question(result, console)
    if json:
        print_json({**asdict(result), "answer": answer})
    else:
        took = f"ready after {result.total_s:.0f} s" if not result.was_running else "running"
        grpc = f", {result.grpc_url}" if result.grpc_url is not None else ""
        typer.echo(f"\nLongreach is {took}: {result.url}/v1{grpc}")
        _print_next_steps(result, config)


def down(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Stop the cluster: every process it started, and only those."""
    from cluster.local.down import down as take_down

    started = time.monotonic()
    # Never guessed, unlike what other commands look at: another cluster is not stopped unless it is named.
    where = run_dir(config) if config is not None else default_run_dir()
    ended = take_down(where)
    took_s = time.monotonic() - started
    if json:
        print_json({"processes": ended.processes, "shared_memory": [str(path) for path in ended.shared_memory]})
    elif ended.processes:
        typer.echo(f"Stopped {ended.processes} processes in {took_s:.0f} s; nothing of the cluster is left running")
    else:
        typer.echo("Nothing was running")
        others = [] if config is not None else started_besides(where)
        if others:
            typer.echo(f"Other clusters are left alone: {', '.join(_named(other) for other in others)}")


def status(
    config: ConfigOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking, until Ctrl-C.")] = False,
    json: JsonOption = False,
) -> None:
    """Show pools, replicas, load, the gateway and Redis."""
    from rich.console import Console
    from rich.live import Live

    from cluster.cli.status_view import status_view
    from cluster.local.observe import observe

    where = run_dir(config)
    name = where.root.name
    console = Console()
    if json:
        print_json(asdict(observe(where, cluster=name)))
        return
    if not watch:
        console.print(status_view(observe(where, cluster=name)))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(status_view(observe(where, cluster=name)), refresh=True)
                time.sleep(WATCH_INTERVAL_S)
        except KeyboardInterrupt:
            return


def _named(other: RunDir) -> str:
    from cluster.local.journal import read_journal

    journal = read_journal(other.journal)
    return f"{other.root.name} (longreach down --config {journal.source})" if journal else other.root.name


def _first_question(result: UpResult, console: object) -> dict[str, object]:
    from rich.console import Console

    from cluster.environment import read_environment
    from cluster.local.client import GatewayClient
    from cluster.local.question import ask

    assert isinstance(console, Console)
    client = GatewayClient(result.url, api_key=read_environment().secret("LONGREACH_API_KEY"))
    try:
        return ask(client, model=result.model, console=console).summary()
    except KeyboardInterrupt:
        console.print("\n(interrupted; the cluster goes on running)")
        return {}
    finally:
        client.close()


def _print_next_steps(result: UpResult, config: Path | None) -> None:
    from cluster.local.question import next_steps

    called = program()
    if called != "longreach":
        called = os.path.relpath(called)
        called = called if len(called) < len(program()) else program()
    typer.echo(next_steps(result.url, result.model, program=str(Path(called)), config=str(config) if config else None))
