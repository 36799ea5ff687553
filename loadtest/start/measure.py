"""One start: a replica is killed, and the one that Serve starts in its place is waited for and asked.

What must not live here: how often, and what becomes of the figures.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import httpx
import psutil

from cluster.core import wire
from cluster.core.lease import Lease, ReplicaPhase, ReplicaReport
from cluster.deployment import load_deployment
from cluster.engine import orphans
from cluster.local.rundir import RunDir
from cluster.local.state_view import read_state
from loadtest.prefix.client import BenchError, ask
from loadtest.start.configuration import CLUSTER, Way

POLL_S = 0.5
"""Looking takes CPU, which a start on few cores needs itself. The replica's own clock does not depend on it."""
START_TIMEOUT_S = 600.0
MESSAGES = ({"role": "user", "content": "Hello"},)
ANSWER_TOKENS = 8
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One replica's start."""

    way: Way
    stages_s: dict[str, float]
    """By the replica's own clock, from the birth of its process to its lease."""
    ttft_s: float
    """Of the first request after that."""
    replaced_s: float
    """From the kill of the replica before it to that first token, to within `POLL_S`: Serve's part is in it."""
    pss_mib: float
    """Memory of all its processes then, shared pages divided among who shares them."""
    load_1min: float
    """Of the machine when it began."""

    @property
    def first_token_s(self) -> float:
        """From the birth of its process to its first token for a client."""
        return sum(self.stages_s.values()) + self.ttft_s


class Starter:
    """Starts replicas of a running cluster anew."""

    def __init__(self, run_dir: RunDir, http: httpx.Client) -> None:
        self._state_url = load_deployment(run_dir.deployment).state_url
        self._headers = {wire.HEADER_CREDENTIAL: run_dir.credential.read_text(encoding="ascii")}
        self._http = http

    def start(self, way: Way) -> Start:
        """Kill this pool's replica, and wait for the next one's first token.

        Raises:
            BenchError: none came, or it did not answer.
        """
        old, report = self._serving(way, other_than=None)
        load_1min = os.getloadavg()[0]
        killed_s = time.monotonic()
        os.kill(report.pid, signal.SIGKILL)
        lease, report = self._serving(way, other_than=old)
        answer = ask(
            self._http,
            lease.url,
            MESSAGES,
            model=lease.model,
            answer_tokens=ANSWER_TOKENS,
            headers=self._headers,
        )
        return Start(
            way=way,
            stages_s=dict(report.start_s),
            ttft_s=answer.ttft_s,
            replaced_s=time.monotonic() - killed_s,
            pss_mib=_pss_mib(report.pid),
            load_1min=load_1min,
        )

    def _serving(self, way: Way, *, other_than: Lease | None) -> tuple[Lease, ReplicaReport]:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            state = read_state(self._state_url, CLUSTER)
            reports = {report.replica_id: report for report in state.reports}
            for lease in state.leases:
                report = reports.get(lease.replica_id)
                is_old = other_than is not None and lease.replica_id == other_than.replica_id
                if str(lease.pool) == str(way) and not is_old and report and report.phase is ReplicaPhase.SERVING:
                    return lease, report
            if time.monotonic() > deadline_s:
                raise BenchError(f"pool {way} has no replica after {START_TIMEOUT_S:.0f} s {state.error}")
            time.sleep(POLL_S)


def _pss_mib(replica_pid: int) -> float:
    """Of a replica and its engine's processes."""
    processes = [psutil.Process(replica_pid), *orphans.engine_processes(replica_pid)]
    return sum(process.memory_full_info().pss for process in processes) / MIB
