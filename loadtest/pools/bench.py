"""The whole bench: each layout's cluster in turn, the load without and with long requests, and what came of it.

What must not live here: sending (loadtest/client), sums (results.py), tables and plots.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.deployment import load_deployment
from cluster.environment import Environment
from loadtest.arrivals import Steady
from loadtest.client.aim import Aim
from loadtest.client.coordinator import LoadTestError, Rules, arguments_of, run_load
from loadtest.client.job import Job, Times
from loadtest.client.live import Snapshot
from loadtest.client.runner import Pace
from loadtest.own_cluster import own_cluster
from loadtest.pools.cores import cores, one_core_each
from loadtest.pools.plan import (
    CLUSTER,
    DRAIN_S,
    LONG_CONTEXT_TOKENS,
    MODEL,
    SCENARIO,
    WARMUP_S,
    Layout,
    Plan,
    configuration,
)
from loadtest.pools.results import Measured
from loadtest.prefix.progress import Watcher
from loadtest.record import Run

NAME_BYTES = 4
TICKS = 60
"""Steps of progress in each run."""


def measure_pools(plan: Plan, *, environment: Environment, console: Console, watcher: Watcher) -> list[Measured]:
    """Run it. A cluster is started once a layout and round; in every second round the other layout is first.

    Args:
        plan: what to measure.
        environment: says where run folders are.
        console: for the progress of starting.
        watcher: told of the progress of each run.

    Raises:
        SetupError: this machine cannot run it, or another bench is at work.
        ModelStoreError: the model cannot be had.
        LoadTestError: the client could not do its work, or was interrupted.
        InterruptedBySignal: after everything has been taken down again.
    """
    measured: list[Measured] = []
    for number in range(plan.rounds):
        for layout in list(Layout) if number % 2 == 0 else list(reversed(Layout)):

            def write(folder: Path, port_min: int, layout: Layout = layout) -> Mapping[str, Any]:
                del folder
                return configuration(layout, plan.model, core=cores()[0], port_min=port_min)

            purpose = "`longreach bench pools`"
            own = own_cluster(CLUSTER, write, purpose=purpose, environment=environment, console=console)
            with own as started:
                one_core_each(started.run_dir, CLUSTER)
                tokenizer = Path(load_deployment(started.run_dir.deployment).model_folders[MODEL])
                for with_long in (False, True):
                    job = _job(plan, number, started.url, tokenizer, with_long=with_long)
                    load_1min = os.getloadavg()[0]
                    run = _sent(job, layout, watcher, with_long=with_long)
                    measured.append(Measured(layout=layout, with_long=with_long, run=run, load_1min=load_1min))
    return measured


def _job(plan: Plan, number: int, url: str, tokenizer: Path, *, with_long: bool) -> Job:
    return Job(
        name=f"lt-{secrets.token_hex(NAME_BYTES)}",
        scenario=SCENARIO,
        settings=plan.settings(with_long=with_long),
        aim=Aim(url=url, model=MODEL),
        pace=Pace(duration_s=plan.seconds, drain_s=DRAIN_S),
        times=Times(course=Steady(rate_per_s=plan.rate_per_s)),
        # The rounds differ, the layouts of a round do not.
        seed=plan.seed + number,
        salt=secrets.token_hex(NAME_BYTES),
        context_tokens=LONG_CONTEXT_TOKENS,
        tokenizer=tokenizer,
    )


def _sent(job: Job, layout: Layout, watcher: Watcher, *, with_long: bool) -> Run:
    rules = Rules(warmup_s=WARMUP_S)
    watcher.begins(f"{layout}, {'with' if with_long else 'without'} long requests", TICKS)
    try:
        watch = _steps(watcher, job.pace.duration_s)
        run = run_load(job, rules, arguments=arguments_of(job, rules), watch=watch)
    finally:
        watcher.ends()
    if run.stopped:
        raise LoadTestError(f"a run was stopped before its time: {run.stopped}")
    return run


def _steps(watcher: Watcher, seconds: float) -> Callable[[Snapshot], None]:
    """Tell the watcher of as many steps as the time that passed is worth."""
    told = 0

    def watch(now: Snapshot) -> None:
        nonlocal told
        while told < min(TICKS, int(now.elapsed_s / seconds * TICKS) + 1):
            told += 1
            watcher.step(f"{now.counts.done} answered, {now.counts.in_flight} in flight")

    return watch


def setup_of(plan: Plan) -> dict[str, Any]:
    """What was measured, for the report."""
    return asdict(plan) | {"cores": len(os.sched_getaffinity(0)), "warmup_s": WARMUP_S}
