"""`longreach simulate autoscale`: GPU hours under the production autoscaling policy, beside shared pools.

What must not live here: the comparison (cluster/simulator/study/scaling.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.files import write
from cluster.cli.plan import gpu_names
from cluster.cli.simulate_search import DEFAULT_CARDS, DEFAULT_GPU, DEFAULT_MODEL
from cluster.cli.simulate_traces import (
    FitOption,
    OverlayOption,
    RateOption,
    RequestsOption,
    SeedOption,
    ShapeOption,
    TailOption,
    TraceOption,
    chosen_trace,
)
from cluster.cli.target import JsonOption, print_json

DEFAULT_BASELINE = "shared-exact-prefix"
DEFAULT_POLICY = "balanced"


def autoscale(
    trace: TraceOption = None,
    fit: FitOption = None,
    overlay: OverlayOption = 1,
    requests: RequestsOption = None,
    rate: RateOption = None,
    tail: TailOption = 0.0,
    shape: ShapeOption = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = DEFAULT_MODEL,
    gpu: Annotated[
        str, typer.Option("--gpu", "-g", help="Kind of every card.", autocompletion=gpu_names, metavar="KIND")
    ] = DEFAULT_GPU,
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=64, help="The most cards of a pool.")] = DEFAULT_CARDS,
    startup: Annotated[float, typer.Option("--startup", min=0, help="Seconds that a replica takes to start.")] = 60.0,
    baseline: Annotated[str, typer.Option("--baseline", help="The shared pool's router.")] = DEFAULT_BASELINE,
    policy: Annotated[str, typer.Option("--policy", help="Longreach's routing policy.")] = DEFAULT_POLICY,
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="Service level in seconds: ttft=2,ttft_per_1k=0.25,itl=0.1, the default."),
    ] = None,
    seed: SeedOption = 0,
    page: Annotated[Path | None, typer.Option("--page", help="Write figures and plots here as HTML.")] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write the plots into this folder.", metavar="FOLDER")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Count GPU hours with autoscaled pools, against one shared pool of fixed size and under Ray Serve's policy."""
    from cluster.cli.simulate_view import runs_of, show_scaling
    from cluster.core.errors import SetupError
    from cluster.core.routing import Policy
    from cluster.gpus import find_gpu
    from cluster.planner.models import planned_card
    from cluster.planner.workload import service_level
    from cluster.simulator.baselines import Baseline
    from cluster.simulator.study.card import planned_replica
    from cluster.simulator.study.scaling import LEVELS, ScalingQuestion, run_scaling
    from cluster.simulator.study.scaling_view import cards_plot, load_plot, savings_plot, scaling_json, scaling_page

    shared = [one for one in Baseline if one.is_shared]
    if baseline not in shared:
        raise typer.BadParameter(f"--baseline {baseline}: one of {', '.join(shared)}")
    if policy not in set(Policy):
        raise typer.BadParameter(f"--policy {policy}: one of {', '.join(Policy)}")
    card = planned_card(model)
    spec = planned_replica(card, find_gpu(gpu))
    question = ScalingQuestion(
        trace=chosen_trace(
            trace, fit, requests=requests, rate=rate, tail=tail, overlay=overlay, shape=shape, seed=seed
        ),
        spec=spec,
        gpus=gpus,
        context_tokens=min(card.context_tokens, spec.kv_tokens),
        startup_s=startup,
        baseline=Baseline(baseline),
        policy=policy,
        level=service_level(slo),
        seed=seed,
    )
    try:
        with runs_of() as told:
            found = run_scaling(question, told=told)
    except ValueError as error:
        raise SetupError(f"this cannot be compared: {error}", "see `longreach simulate autoscale --help`") from error
    if page is not None:
        write(page, scaling_page(found))
    if svg is not None:
        write(svg / f"{question.trace.name}-savings.svg", savings_plot(found))
        write(svg / f"{question.trace.name}-load.svg", load_plot(found))
        for level in LEVELS:
            write(svg / f"{question.trace.name}-cards-{round(100 * level)}.svg", cards_plot(found, level))
    if json:
        print_json(scaling_json(found))
    else:
        show_scaling(found, page)
