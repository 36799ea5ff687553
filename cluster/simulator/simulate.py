"""Runs a trace against a cluster: the simulator's one entry point.

What must not live here: files, tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.simulator.cluster import ClusterSpec
from cluster.simulator.outcome import Result
from cluster.simulator.production import ProductionRouter
from cluster.simulator.router import Router
from cluster.simulator.scaler import ProductionScaler, Scaler
from cluster.simulator.trace import Trace
from cluster.simulator.world import World


def simulate(
    trace: Trace,
    cluster: ClusterSpec,
    *,
    router: Router | None = None,
    scaler: Scaler | None = None,
    seed: int = 0,
    until_s: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """What becomes of every request; equal arguments give equal results.

    Args:
        trace: what comes.
        cluster: what serves it.
        router: who decides; a new one for each run, since it remembers. None: the production core.
        scaler: who sizes pools, where `cluster.autoscale_every_s` is set; a new one for each run as well. None: the
            production policy.
        seed: of every draw.
        until_s: simulated time at which to stop; None: when every request has ended.
        progress: told now and then how many requests have arrived.

    Raises:
        ValueError: the trace does not fit the cluster: its blocks are no multiple of a replica's, or a request without
            a token.
    """
    began_s = time.perf_counter()
    for number, request in enumerate(trace.requests):
        if request.prompt_tokens < 1:
            raise ValueError(f"request {number} of {trace.name} has a prompt of {request.prompt_tokens} tokens")
    router = router or ProductionRouter(cluster)
    world = World(trace, cluster, router, seed=seed)
    world.fleet.scaler = scaler or ProductionScaler()
    router.open(world)
    world.run(progress, until_s=until_s)
    world.fleet.close()
    return Result(
        trace=trace.name,
        router=router.name,
        seed=seed,
        outcomes=world.outcomes,
        pools=world.fleet.use,
        sizes=tuple(world.fleet.sizes),
        decisions=tuple(world.fleet.decisions),
        ended_s=world.now_s,
        events=world.events,
        wall_s=time.perf_counter() - began_s,
    )
