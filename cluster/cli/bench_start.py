"""`longreach bench start`: how long a new replica takes, with and without a warm parent, on a cluster of its own.

What must not live here: measuring (loadtest/start).
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cluster.cli.bench_prefix import check_json_file, consoles, drawn, one_of, tell
from cluster.cli.bench_route import JsonFileOption


def start(
    json: JsonFileOption = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=50, help="In each, one replica is started either way.")
    ] = 5,
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = "tiny",
    dtype: Annotated[str, typer.Option("--dtype", help="As pools[].engine.dtype.", metavar="TYPE")] = "auto",
) -> None:
    """Kill replicas and time the new ones to their first token, spawned and forked in turns (about 5 minutes)."""
    from cluster.environment import read_environment
    from cluster.local.interrupt import InterruptedBySignal, raising
    from loadtest.start.bench import measure_starts
    from loadtest.start.configuration import Plan
    from loadtest.start.report import print_report

    console, progress = consoles()
    plan = Plan(model=model, dtype=one_of(dtype, "--dtype", ("auto", "bfloat16", "float16", "float32")), rounds=rounds)
    check_json_file(json)
    started_s = time.monotonic()
    try:
        with raising(), drawn(progress, unit="starts") as watcher:
            report = measure_starts(plan, environment=read_environment(), console=progress, watcher=watcher)
    except InterruptedBySignal as signal:
        raise typer.Exit(signal.exit_status) from None
    report["took_s"] = round(time.monotonic() - started_s, 1)
    tell(console, report, json, print_report)
