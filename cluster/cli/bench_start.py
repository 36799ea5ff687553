"""`longreach bench start`: how long a new replica takes, with and without a warm parent, on a cluster of its own.

What must not live here: measuring (loadtest/start).
"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.bench_frame import Frame, JsonFileOption, one_of


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
    from loadtest.start.bench import measure_starts
    from loadtest.start.configuration import Plan
    from loadtest.start.report import print_report

    frame = Frame(json)
    plan = Plan(model=model, dtype=one_of(dtype, "--dtype", ("auto", "bfloat16", "float16", "float32")), rounds=rounds)
    with frame.measuring(unit="starts") as watcher:
        report = measure_starts(plan, environment=read_environment(), console=frame.progress, watcher=watcher)
    frame.tell(report, print_report)
