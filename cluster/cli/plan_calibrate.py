"""`longreach plan calibrate`: how fast a running replica is.

What must not live here: measuring and fitting (cluster/planner).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, UrlOption, gateway_url, print_json

if TYPE_CHECKING:
    from cluster.planner.fit import Observation
    from cluster.planner.measure import Target


def calibrate(
    model: Annotated[str, typer.Option("--model", "-m", help="The model's name there.")],
    gpu: Annotated[str, typer.Option("--gpu", "-g", help="Kind of GPU it runs on.", metavar="KIND")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", min=1, help="GPUs of the replica.")] = 1,
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", min=16, help="Prompt tokens of its steps; default: 8192, on CPU 1024."),
    ] = None,
    longest_prompt: Annotated[
        int, typer.Option("--longest-prompt", min=64, help="Longest prompt to measure, in tokens.")
    ] = 4096,
    most_running: Annotated[
        int, typer.Option("--most-running", min=1, max=256, help="Largest batch to measure, in sequences.")
    ] = 8,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=20, help="Of each; the median counts.")] = 3,
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", help="Variable that holds the API key, where it is set.")
    ] = "LONGREACH_API_KEY",
    url: UrlOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a replica that has nothing else to do, and write what `plan --calibration` and the simulator read."""
    from rich.console import Console

    from cluster.cli.plan_view import calibration_view
    from cluster.environment import read_environment
    from cluster.gpus import find_gpu
    from cluster.planner.calibration import calibration_of, calibration_to_dict, write_calibration
    from cluster.planner.fit import fit_cost
    from cluster.planner.measure import Target
    from cluster.planner.shapes import CPU_STEP_TOKENS, GPU_STEP_TOKENS

    kind = find_gpu(gpu)
    key = read_environment().secret(api_key_env)
    tokens = batch_tokens or (CPU_STEP_TOKENS if kind.is_cpu else GPU_STEP_TOKENS)
    observations = _measured(
        Target(
            url=gateway_url(url, config).rstrip("/").removesuffix("/v1"),
            model=model,
            batch_tokens=tokens,
            longest_prompt_tokens=longest_prompt,
            most_running=most_running,
            repeats=repeats,
            seed=time.time_ns(),
            headers={"authorization": f"Bearer {key}"} if key else {},
        )
    )
    fit = fit_cost(observations)
    calibration = calibration_of(
        fit, observations, model=model, gpu=kind.name, ranks=tensor_parallel, batch_tokens=tokens
    )
    write_calibration(output, calibration)
    if json:
        print_json(calibration_to_dict(calibration))
    else:
        Console().print(calibration_view(calibration, fit.errors), highlight=False)
        typer.echo(f"Wrote {output}")


def _measured(target: Target) -> tuple[Observation, ...]:
    """With a bar on standard error."""
    import asyncio

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from cluster.planner.measure import measure

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("connecting", total=target.rounds + 1)
        return asyncio.run(measure(target, lambda what: progress.update(task, advance=1, description=what)))
