"""`longreach simulate search`: which pools serve a trace best, against other people's routers on the same cards.

What must not live here: the search (cluster/simulator/study).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.files import write
from cluster.cli.plan import gpu_names
from cluster.cli.simulate_traces import (
    FitOption,
    OverlayOption,
    RateOption,
    RequestsOption,
    SeedOption,
    TailOption,
    TraceOption,
    chosen_trace,
)
from cluster.cli.target import JsonOption, print_json

DEFAULT_MODEL = "qwen3-4b-instruct-2507"
DEFAULT_GPU = "H100"
DEFAULT_CARDS = 8
"""Of one server."""
DEFAULT_LOADS = "0.7,0.85,0.95"


def search(
    trace: TraceOption = None,
    fit: FitOption = None,
    overlay: OverlayOption = 1,
    requests: RequestsOption = None,
    rate: RateOption = None,
    tail: TailOption = 0.0,
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = DEFAULT_MODEL,
    gpu: Annotated[
        str, typer.Option("--gpu", "-g", help="Kind of every card.", autocompletion=gpu_names, metavar="KIND")
    ] = DEFAULT_GPU,
    gpus: Annotated[int, typer.Option("--gpus", min=2, max=64, help="How many cards, a replica on each.")] = (
        DEFAULT_CARDS
    ),
    load: Annotated[
        str, typer.Option("--load", help="Rates, as parts of the best shared pool's stable maximum.")
    ] = DEFAULT_LOADS,
    policy: Annotated[str, typer.Option("--policy", help="Production policies to try, with commas.")] = (
        "balanced,prefix"
    ),
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="Service level in seconds: ttft=2,ttft_per_1k=0.25,itl=0.1, the default."),
    ] = None,
    seed: SeedOption = 0,
    page: Annotated[Path | None, typer.Option("--page", help="Write figures and plots here as HTML.")] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write each rate's plot into this folder.", metavar="FOLDER")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search boundaries and cards of the pools for a trace, and compare them with shared pools (some minutes)."""
    from cluster.cli.simulate_view import runs_of, show_study
    from cluster.core.errors import SetupError
    from cluster.core.routing import Policy
    from cluster.gpus import find_gpu
    from cluster.planner.models import planned_card
    from cluster.planner.workload import service_level
    from cluster.simulator.study.card import planned_replica
    from cluster.simulator.study.study import Question, run_study
    from cluster.simulator.study.view import frontier_plot, study_json, study_page

    try:
        loads = tuple(float(one) for one in load.split(","))
        policies = tuple(Policy(one) for one in policy.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{error}; --load {DEFAULT_LOADS} --policy balanced,prefix") from error
    card = planned_card(model)
    spec = planned_replica(card, find_gpu(gpu))
    question = Question(
        trace=chosen_trace(trace, fit, requests=requests, rate=rate, tail=tail, overlay=overlay, seed=seed),
        spec=spec,
        gpus=gpus,
        context_tokens=min(card.context_tokens, spec.kv_tokens),
        loads=loads,
        level=service_level(slo),
        policies=policies,
        seed=seed,
    )
    try:
        with runs_of() as told:
            study = run_study(question, told=told)
    except ValueError as error:
        raise SetupError(f"this cannot be compared: {error}", "see `longreach simulate search --help`") from error
    if page is not None:
        write(page, study_page(study))
    if svg is not None:
        for one in study.rates:
            name = f"{question.trace.name}-{round(100 * one.load)}.svg"
            write(svg / name, frontier_plot(one, question.trace.name))
    if json:
        print_json(study_json(study))
    else:
        show_study(study, page)
