"""How fast the simulator is: requests drawn from a fit, on many replicas, on one core.

What must not live here: the simulator.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from cluster.gpus import find_gpu
from cluster.planner.models import planned_card
from cluster.simulator.cluster import ClusterSpec
from cluster.simulator.configured import Speed, default_cluster
from cluster.simulator.outcome import Fate
from cluster.simulator.simulate import simulate
from cluster.simulator.traces import DEFAULT_FIT, builtin_fits, generate

MODEL, GPU = "qwen3-4b-instruct-2507", "H100"
REQUESTS_PER_REPLICA_S = 0.5
"""Of the default fit: replicas are busy most of the time, and few requests wait at the gateway."""
LONG_SHARE = 0.25
KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One run."""

    replicas: int
    requests: int
    done: int
    """Requests that were answered; the others were refused."""
    simulated_s: float
    events: int
    wall_s: float
    """Of the simulation, drawing the trace not included."""
    cpu_s: float
    """The same in time of this process's core, which others on the machine do not lengthen so much."""
    peak_mib: float

    @property
    def request_us(self) -> float:
        """Wall time of one request."""
        return 1e6 * self.wall_s / self.requests

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "request_us": self.request_us}


def measure_simulation(
    replicas: int, requests: int, seed: int, *, progress: Callable[[int], None] | None = None
) -> Timing:
    """Simulate so many requests on so many replicas, three quarters of them in a short pool."""
    fit = builtin_fits()[DEFAULT_FIT]
    trace = generate(fit, requests=requests, seed=seed, requests_per_s=REQUESTS_PER_REPLICA_S * replicas)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    result = simulate(trace, _cluster(replicas), seed=seed, progress=progress)
    return Timing(
        replicas=replicas,
        requests=requests,
        done=sum(fate == Fate.DONE for fate in result.outcomes.fate),
        simulated_s=result.ended_s,
        events=result.events,
        wall_s=time.perf_counter() - began_s,
        cpu_s=time.process_time() - cpu_s,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB,
    )


def _cluster(replicas: int) -> ClusterSpec:
    spec = default_cluster(planned_card(MODEL), Speed(gpu=find_gpu(GPU)))
    long = max(1, round(replicas * LONG_SHARE))
    counts = (max(1, replicas - long), long)
    pools = tuple(replace(pool, replicas=count) for pool, count in zip(spec.pools, counts, strict=True))
    return replace(spec, pools=pools)
