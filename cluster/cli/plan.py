"""`longreach plan`: what a model takes, what GPUs make of it, and the pools for a workload.

What must not live here: any of the sums (cluster/planner), tables (plan_view.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.files import write
from cluster.cli.plan_calibrate import calibrate
from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from cluster.core.capacity.load import OfferedLoad
    from cluster.gpus import GpuSpec
    from cluster.planner.plan import Plan
    from cluster.planner.shapes import MeasuredCost

app = typer.Typer(help="Plan which GPUs serve a model, and in which pools.", no_args_is_help=False)
PLAIN_WIDTH = 150
"""Characters; the widest table fits."""


def gpu_names(incomplete: str) -> Iterator[str]:
    """For the shell: kinds of GPU that begin so, in the letters that were typed: the shell minds their case."""
    from cluster.gpus import KINDS

    for gpu in KINDS:
        if gpu.name.lower().startswith(incomplete.lower()):
            yield incomplete + gpu.name[len(incomplete) :]


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Catalog id, hub id, or a folder; weights need not be here.")
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            "-g",
            help="Kind; with KIND:CARDS a node of so many, with KIND:CARDSxNODES several; repeatable.",
            autocompletion=gpu_names,
            metavar="KIND",
        ),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload",
            "-w",
            help="RATE,PROMPT,OUTPUT (2,8000,300; lengths as P50/P95: 2,4000/60000,300/900), or a trace file.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.0, help="Requests a second, instead of the workload's own.")
    ] = None,
    cached_ratio: Annotated[
        float,
        typer.Option("--cached-ratio", min=0.0, max=0.99, help="Of each prompt, what is cached already."),
    ] = 0.0,
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="Service level in seconds: ttft=2,ttft_per_1k=0.25,itl=0.1, the default."),
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option("--context-tokens", min=4096, help="Longest context; default: the model's.")
    ] = None,
    price_per_hour: Annotated[
        list[str] | None,
        typer.Option("--price-per-hour", help="Of one card: KIND=NUMBER, or a number for all; repeatable."),
    ] = None,
    gpu_memory_ratio: Annotated[
        float, typer.Option("--gpu-memory-ratio", min=0.1, max=1.0, help="Share of a card the engine may take.")
    ] = 0.9,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="What `plan calibrate` wrote: measured speed.")
    ] = None,
    emit: Annotated[
        str | None, typer.Option("--emit", help="Print a file instead: config, or values (of the chart).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write that file here.")] = None,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", help="Write plots of contexts and prefill into this folder.", metavar="FOLDER"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Plan memory, pools, replicas and cost of a model on kinds of GPU."""
    if context.invoked_subcommand is not None:
        return
    if model is None or not gpu:
        raise typer.BadParameter(
            "name a model and a kind of GPU: longreach plan --model qwen3-4b-instruct-2507 --gpu L4"
        )
    if emit not in {None, "config", "values"}:
        raise typer.BadParameter(f"--emit {emit}: config or values")
    if output is not None and emit is None:
        raise typer.BadParameter("--output is for the file of --emit config or --emit values")
    from cluster.planner.models import planned_card
    from cluster.planner.plan import Question, make_plan, parse_gpus
    from cluster.planner.workload import service_level

    gpus, nodes = parse_gpus(gpu)
    card = planned_card(model)
    found = make_plan(
        Question(
            model=model,
            card=card,
            gpus=gpus,
            nodes=nodes,
            context_tokens=context_tokens,
            load=_load(workload, rate, cached_ratio),
            level=service_level(slo),
            prices=_prices(price_per_hour or [], gpus),
            memory_ratio=gpu_memory_ratio,
            measured=None if calibration is None else _measured(calibration, {model, card.id}),
        )
    )
    if svg is not None:
        from cluster.cli.plan_plots import context_plot, prefill_plot

        write(svg / f"{card.id}-context.svg", context_plot(found))
        write(svg / f"{card.id}-prefill.svg", prefill_plot(found))
    if emit is not None:
        _emit(found, emit, output, as_json=json)
    elif json:
        from cluster.planner.report import plan_report

        print_json(plan_report(found))
    else:
        from cluster.cli.plan_view import plan_view

        _print(plan_view(found))


@app.command()
def gpus(json: JsonOption = False) -> None:
    """List the kinds of GPU that can be planned with, with the source of every number."""
    from cluster.gpus import KINDS

    if json:
        from cluster.planner.report import gpu_report

        print_json([gpu_report(one) for one in KINDS])
    else:
        from cluster.cli.plan_view import gpus_view

        _print(gpus_view(KINDS))


app.command()(calibrate)


def _load(workload: str | None, rate: float | None, cached_ratio: float) -> OfferedLoad | None:
    from dataclasses import replace

    from cluster.core.errors import SetupError
    from cluster.planner.workload import at_rate, load_of_trace, offered_load
    from cluster.simulator.traces import read_trace

    if workload is None:
        if rate is not None or cached_ratio:
            raise typer.BadParameter("--rate and --cached-ratio are about a --workload")
        return None
    path = Path(workload).expanduser()
    if path.is_file():
        load = load_of_trace(read_trace(path))
    elif "," in workload:
        load = offered_load(workload)
    else:
        raise SetupError(f"there is no trace {workload}", "name a file, or RATE,PROMPT,OUTPUT as 2,8000,300")
    load = replace(load, cached_ratio=cached_ratio)
    return at_rate(load, rate) if rate else load


def _prices(texts: list[str], gpus: tuple[GpuSpec, ...]) -> dict[str, float] | None:
    from cluster.core.errors import SetupError
    from cluster.gpus import find_gpu

    prices: dict[str, float] = {}
    for text in texts:
        kind, _, number = text.rpartition("=")
        try:
            price = float(number)
        except ValueError:
            price = 0.0
        if not 0 < price < float("inf"):
            raise SetupError(f"{text!r} is no price", "--price-per-hour L4=0.7 (any currency), above 0")
        prices |= {find_gpu(kind).name: price} if kind else {gpu.name: price for gpu in gpus}
    return prices or None


def _measured(path: Path, names: set[str]) -> MeasuredCost:
    from cluster.core.errors import SetupError
    from cluster.planner.calibration import read_calibration

    calibration = read_calibration(path)
    if calibration.model not in names:
        raise SetupError(f"{path} was measured with {calibration.model}", f"measure {min(names)}, too")
    return calibration.measured


def _emit(found: Plan, what: str, output: Path | None, *, as_json: bool) -> None:
    from cluster.core.errors import SetupError
    from cluster.planner.emit import as_text, config_of, values_of_plan

    document = config_of(found) if what == "config" else values_of_plan(found)
    if output is not None:
        try:
            output.write_text(as_text(found, document), encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{output} cannot be written: {error.strerror}", "name another --output") from error
    if as_json:
        print_json(document)
    elif output is None:
        typer.echo(as_text(found, document), nl=False)
    else:
        typer.echo(f"Wrote {output}")


def _print(view: Any) -> None:
    from rich.console import Console

    console = Console()
    # A file or a pipe has no width of its own; the default would break every row in two.
    (console if console.is_terminal else Console(width=PLAIN_WIDTH)).print(view, highlight=False)
