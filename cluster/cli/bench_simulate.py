"""`longreach bench simulate`: how fast the simulator is.

What must not live here: the timing (loadtest/simulation/speed.py).
"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.simulate import progress_bar
from cluster.cli.target import JsonOption, print_json


def simulate(
    replicas: Annotated[int, typer.Option("--replicas", min=2, max=10_000, help="Replicas, in two pools.")] = 1_000,
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, help="Requests, drawn.")] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the requests and of every draw.")] = 1,
    json: JsonOption = False,
) -> None:
    """Time the simulator with every production policy, on one core."""
    from loadtest.simulation.speed import measure_simulation

    with progress_bar(requests) as progress:
        timing = measure_simulation(replicas, requests, seed, progress=progress)
    if json:
        print_json(timing.row())
        return
    typer.echo(
        f"{timing.requests:,} requests on {timing.replicas:,} replicas, {timing.done:,} of them answered: "
        f"{timing.wall_s:,.1f} s ({timing.cpu_s:,.1f} s of CPU), {timing.request_us:.0f} µs a request, "
        f"{timing.events:,} events, {timing.simulated_s:,.0f} s simulated, {timing.peak_mib:,.0f} MiB at most"
    )
