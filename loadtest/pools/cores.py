"""One core for each replica, as each has its own accelerator on a GPU cluster.

Without it all replicas' threads run on all cores, a long prompt takes them from everybody, and no arrangement of
replicas could be told from another. What must not live here: what is measured.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from cluster.core.errors import SetupError
from cluster.core.lease import ReplicaPhase
from cluster.deployment import load_deployment
from cluster.engine import orphans
from cluster.local.rundir import RunDir
from cluster.local.state_view import read_state

REPLICAS = 2


def cores() -> list[int]:
    """The cores of the two replicas.

    Raises:
        SetupError: there are not enough.
    """
    found = sorted(os.sched_getaffinity(0))
    if len(found) < REPLICAS:
        raise SetupError(
            f"{len(found)} core for {REPLICAS} replicas, which need one each", "use a machine with 2 cores"
        )
    return found[:REPLICAS]


def one_core_each(run_dir: RunDir, cluster: str) -> None:
    """Move every thread of each replica's engine to a core of its own; they have one computing thread each.

    Raises:
        SetupError: other than two replicas serve.
    """
    state = read_state(load_deployment(run_dir.deployment).state_url, cluster)
    serving = [report for report in state.reports if report.phase is ReplicaPhase.SERVING]
    if len(serving) != REPLICAS:
        raise SetupError(f"{len(serving)} replicas serve instead of {REPLICAS}", f"their logs are in {run_dir.logs}")
    for report, core in zip(sorted(serving, key=lambda one: one.replica_id), cores(), strict=True):
        for process in orphans.engine_processes(report.pid):
            _pin(process, core)


def _pin(process: psutil.Process, core: int) -> None:
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        # A thread that ended meanwhile needs no core.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {core})
