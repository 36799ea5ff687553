"""`longreach simulate`: what a cluster would make of a trace.

What must not live here: the simulation (cluster/simulator), its figures (cluster/simulator/report).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.files import write
from cluster.cli.plan import PLAIN_WIDTH, gpu_names
from cluster.cli.simulate_autoscale import autoscale
from cluster.cli.simulate_search import DEFAULT_GPU, DEFAULT_MODEL, search
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
    traces,
)
from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.core.autoscaling import ServiceLevel
    from cluster.simulator.cluster import ClusterSpec
    from cluster.simulator.configured import Speed
    from cluster.simulator.study.system import System


app = typer.Typer(help="Simulate a cluster: the production policies on a trace, beside other routers.")


@app.callback(invoke_without_command=True)
def simulate(
    context: typer.Context,
    trace: TraceOption = None,
    fit: FitOption = None,
    overlay: OverlayOption = 1,
    requests: RequestsOption = None,
    rate: RateOption = None,
    tail: TailOption = 0.0,
    shape: ShapeOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Configuration file of the cluster to simulate.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Without --config: the model; weights need not be here.")
    ] = None,
    gpu: Annotated[
        str,
        typer.Option("--gpu", "-g", help="Kind of GPU of every replica.", autocompletion=gpu_names, metavar="KIND"),
    ] = DEFAULT_GPU,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="What `plan calibrate` wrote: measured speed.")
    ] = None,
    startup: Annotated[float, typer.Option("--startup", min=0, help="Seconds that a replica takes to start.")] = 60.0,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="A routing policy, or a baseline such as shared-least-request."),
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Let boundaries between pools follow the traffic.")
    ] = False,
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="Service level in seconds: ttft=2,ttft_per_1k=0.25,itl=0.1, the default."),
    ] = None,
    seed: SeedOption = 0,
    page: Annotated[Path | None, typer.Option("--page", help="Write figures and plots here as HTML.")] = None,
    json: JsonOption = False,
) -> None:
    """Simulate a cluster with the production policies: who waits how long, what is refused, what it takes."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console

    from cluster.planner.workload import service_level
    from cluster.simulator.report import figures_of
    from cluster.simulator.report.page import page as page_of
    from cluster.simulator.report.table import as_json, as_table, totals_of

    level = service_level(slo)
    came = chosen_trace(trace, fit, requests=requests, rate=rate, tail=tail, overlay=overlay, shape=shape, seed=seed)
    system = _system(_cluster(config, model, _speed(gpu, calibration, startup)), policy)
    if adaptive or (system.baseline is None and system.cluster.gateway.is_adaptive):
        system = _following(system, level)
    with progress_bar(len(came.requests)) as progress:
        result = system.run(came, seed=seed, progress=progress)
    figures = figures_of(result, came, level=level)
    if page is not None:
        write(page, page_of(f"{came.name}, {system.name}", [(figures, result)]))
    if json:
        print_json({**as_json(figures), "seed": seed, "events": result.events, "wall_s": round(result.wall_s, 3)})
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(as_table(figures), highlight=False)
    console.print()
    for name, value in totals_of(figures):
        console.print(f"{name}: {value}", highlight=False)
    per_request_us = 1e6 * result.wall_s / max(len(came.requests), 1)
    console.print(
        f"simulated {result.ended_s:,.0f} s in {result.wall_s:.1f} s ({per_request_us:.0f} µs a request), seed {seed}",
        highlight=False,
    )


app.command()(traces)
app.command()(search)
app.command()(autoscale)


def _speed(gpu: str, calibration: Path | None, startup_s: float) -> Speed:
    from cluster.gpus import find_gpu
    from cluster.planner.calibration import read_calibration
    from cluster.simulator.configured import Speed

    if calibration is None:
        return Speed(gpu=find_gpu(gpu), startup_s=startup_s)
    found = read_calibration(calibration)
    return Speed(gpu=find_gpu(found.gpu), measured=found.measured, overhead_s=found.overhead_s, startup_s=startup_s)


def _cluster(config: Path | None, model: str | None, speed: Speed) -> ClusterSpec:
    from cluster.config import load_config
    from cluster.planner.models import planned_card
    from cluster.simulator.configured import configured_cluster, default_cluster

    if config is None:
        return default_cluster(planned_card(model or DEFAULT_MODEL), speed)
    if model is not None:
        raise typer.BadParameter("--config names the model already: leave --model out")
    read = load_config(config)
    section = read.models[0]
    return configured_cluster(read, planned_card(section.source or section.id), speed)


def _system(cluster: ClusterSpec, policy: str | None) -> System:
    from dataclasses import replace

    from cluster.core.routing import Policy
    from cluster.simulator.baselines import Baseline
    from cluster.simulator.study.system import System, shared_system

    if policy is None:
        return System(name=cluster.gateway.policy, cluster=cluster)
    if policy in set(Policy):
        return System(name=policy, cluster=replace(cluster, gateway=replace(cluster.gateway, policy=policy)))
    if policy not in set(Baseline):
        raise typer.BadParameter(f"--policy {policy}: one of {', '.join([*Policy, *Baseline])}")
    baseline = Baseline(policy)
    if not baseline.is_shared:
        return System(name=policy, cluster=cluster, baseline=baseline)
    largest = max(cluster.pools, key=lambda pool: pool.context_tokens)
    if len({pool.gpus for pool in cluster.pools}) > 1:
        raise typer.BadParameter(f"--policy {policy}: one pool of all replicas, which must be of equally many GPUs")
    replicas = sum(pool.replicas for pool in cluster.pools)
    return shared_system(baseline, largest.replica, gpus=replicas, context_tokens=largest.context_tokens)


def _following(system: System, level: ServiceLevel) -> System:
    from dataclasses import replace

    if system.baseline is not None or len(system.cluster.pools) == 1:
        raise typer.BadParameter("--adaptive moves the boundary between Longreach's pools: name no baseline, two pools")
    return replace(system, name=f"{system.name}, adaptive", follows=level)


@contextmanager
def progress_bar(requests: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; it is told how many requests have arrived."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=requests)
        yield lambda done: bar.update(task, completed=done)
