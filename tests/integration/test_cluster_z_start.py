"""The end of a replica with a warm parent: `kill -9` of the one or the other leaves no process, and heals."""

from __future__ import annotations

import os
import signal

import httpx
import psutil
import pytest

from cluster.shared_memory import shared_memory_of
from tests.cluster_harness import Cluster, engine_core, engine_workers, settled, until, warm_parent

pytestmark = pytest.mark.integration
GONE_S = 20.0
HEAL_TIMEOUT_S = 240.0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", [pytest.param("replica", marks=pytest.mark.slow), "warm parent"])
async def test_nothing_outlives_it_and_another_one_serves(
    cluster: Cluster, http: httpx.AsyncClient, victim: str
) -> None:
    lease = (await settled(cluster, "short"))["short"]
    pid = (await cluster.reports())[lease.replica_id].pid
    parent = warm_parent(pid)
    engine = [engine_core(pid), *engine_workers(pid)]
    assert {process.ppid() for process in engine} == {parent.pid}
    shared = shared_memory_of(engine)
    assert shared, "vLLM's processes talk through it"
    os.kill(pid if victim == "replica" else parent.pid, signal.SIGKILL)

    def are_gone() -> bool:
        return not [process for process in engine if _runs(process)] and not _runs(parent)

    await until(are_gone, timeout_s=GONE_S, what="the engine's processes and their parent are gone")

    if victim == "replica":
        assert not [file for file in shared if file.exists()]

    async def is_replaced() -> bool:
        leases = await cluster.leases()
        return "short" in leases and leases["short"].replica_id != lease.replica_id

    await until(is_replaced, timeout_s=HEAL_TIMEOUT_S, what="Serve replaced the replica")
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 2}

    async def answers() -> bool:
        answer = await http.post("/v1/completions", json=body)
        return answer.status_code == 200 and answer.headers["x-longreach-pool"] == "short"

    await until(answers, timeout_s=GONE_S, what="the new replica answers")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
