"""`longreach bench resume`: how long a stream pauses when its replica dies, on a cluster of its own.

What must not live here: measuring (loadtest/resume).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cluster.cli.bench_frame import Frame, JsonFileOption


def resume(
    json: JsonFileOption = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=50, help="Streams cut, of each kind.")] = 3,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", min=512, max=200_000, help="Length of the prompt.")
    ] = 4_000,
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = "demo",
    seed: Annotated[int, typer.Option("--seed", help="Of the prompts.")] = 1,
) -> None:
    """Kill replicas under streams; compare the pause with the prompt in Redis and without (about 8 minutes)."""
    from cluster.environment import read_environment
    from loadtest.resume.bench import Plan, measure_resume
    from loadtest.resume.report import print_report, rows

    frame = Frame(json)
    plan = Plan(model=model, prompt_tokens=prompt_tokens, rounds=rounds, seed=seed)
    with frame.measuring(unit="streams") as watcher:
        measured = measure_resume(plan, environment=read_environment(), console=frame.progress, watcher=watcher)
    frame.tell({"setup": asdict(plan), "rows": rows(measured)}, print_report)
