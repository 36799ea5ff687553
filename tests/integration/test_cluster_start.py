"""Engines as they were started in the real cluster: forked from a warm parent, found, and told of."""

from __future__ import annotations

import json

import psutil
import pytest

from cluster.core.start import StartStage
from cluster.engine import orphans
from tests.cluster_harness import CONFIG, Cluster, engine_core, engine_workers, longreach, settled, warm_parent

pytestmark = pytest.mark.integration


async def replica_pid(cluster: Cluster, pool: str) -> int:
    lease = (await settled(cluster, pool))[pool]
    return (await cluster.reports())[lease.replica_id].pid


@pytest.mark.parametrize(("pool", "are_workers_forked"), [("short", True), ("long", True), ("tp", False)])
async def test_engines_are_forked_from_their_replicas_parent(
    cluster: Cluster, pool: str, are_workers_forked: bool
) -> None:
    """Ranks on CPUs have cores of their own from their first instruction on, so several of them are spawned."""
    pid = await replica_pid(cluster, pool)
    parent, core, workers = warm_parent(pid), engine_core(pid), engine_workers(pid)
    assert core.ppid() == parent.pid
    assert {worker.ppid() for worker in workers} == {parent.pid if are_workers_forked else core.pid}
    assert not orphans.runs_engine(parent)


async def test_a_forked_worker_is_bound_as_a_spawned_one_would_be(cluster: Cluster) -> None:
    """vLLM binds it by variables that OpenMP reads once, before a fork could change them: the first thread to the
    first of its cores, each further one to one more. EngineCore is bound to none."""
    pid = await replica_pid(cluster, "short")
    (worker,) = engine_workers(pid)
    cores = psutil.Process(pid).cpu_affinity()
    assert worker.cpu_affinity() == cores[:1]
    assert engine_core(pid).cpu_affinity() == cores


async def test_status_says_where_the_seconds_of_a_start_went(cluster: Cluster) -> None:
    await settled(cluster, "short")
    told = json.loads(longreach("status", "--json", "--config", str(CONFIG), env=cluster.env).stdout)
    (pool,) = [pool for pool in told["pools"] if pool["name"] == "short"]
    (stages,) = [replica["start_s"] for replica in pool["replicas"] if replica["phase"] == "serving"]
    assert list(stages) == [stage for stage in StartStage if stage is not StartStage.MODEL]
    assert all(seconds >= 0 for seconds in stages.values())
    log = longreach("logs", "short", "--lines", "1000", "--config", str(CONFIG), env=cluster.env).stdout
    assert "started in " in log
    assert "warm parent: ready after" in log
