"""`longreach bench pools`: what long prompts cost short requests, with pools and without, on clusters of its own.

What must not live here: measuring (loadtest/pools).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_frame import Frame, JsonFileOption

TOKENS_MAX = 30_000


def pools(
    json: JsonFileOption = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write the plots into this folder.", metavar="FOLDER")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=20, help="Each starts both layouts' clusters.")] = 1,
    duration: Annotated[
        float, typer.Option("--duration", min=30, max=3600, help="Seconds of one run of the load.")
    ] = 240,
    rate: Annotated[
        float, typer.Option("--rate", min=0.01, max=100, help="Sessions a second, long ones included.")
    ] = 0.4,
    short_tokens: Annotated[
        int, typer.Option("--short-tokens", min=1, max=TOKENS_MAX, help="Median prompt of short requests.")
    ] = 150,
    short_output_tokens: Annotated[
        int, typer.Option("--short-output-tokens", min=1, max=4096, help="Answer of short requests.")
    ] = 24,
    long_tokens: Annotated[
        int, typer.Option("--long-tokens", min=1, max=TOKENS_MAX, help="Prompt of long requests.")
    ] = 6_000,
    long_output_tokens: Annotated[
        int, typer.Option("--long-output-tokens", min=1, max=4096, help="Answer of long requests.")
    ] = 24,
    long_share: Annotated[
        float, typer.Option("--long-share", min=0, max=1, help="Of sessions, those that are long.")
    ] = 0.05,
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = "demo",
    seed: Annotated[int, typer.Option("--seed", help="Of times and lengths; the next round takes the next.")] = 1,
) -> None:
    """Time short requests with and without long ones, on two pools and on one of two replicas (about 25 minutes)."""
    from cluster.environment import read_environment
    from loadtest.pools.bench import measure_pools, setup_of
    from loadtest.pools.plan import Plan
    from loadtest.pools.report import plots, print_report
    from loadtest.pools.results import rows

    frame = Frame(json)
    plan = Plan(
        model=model,
        rate_per_s=rate,
        seconds=duration,
        rounds=rounds,
        short_tokens=short_tokens,
        short_output_tokens=short_output_tokens,
        long_tokens=long_tokens,
        long_output_tokens=long_output_tokens,
        long_share=long_share,
        seed=seed,
    )
    if svg is not None:
        svg.mkdir(parents=True, exist_ok=True)
    with frame.measuring(unit="steps") as watcher:
        measured = measure_pools(plan, environment=read_environment(), console=frame.progress, watcher=watcher)
    if svg is not None:
        for name, drawing in plots(measured).items():
            (svg / name).write_text(drawing, encoding="utf-8")
    frame.tell({"setup": setup_of(plan), "rows": rows(measured)}, print_report)
