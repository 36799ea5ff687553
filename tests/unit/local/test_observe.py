"""Pools and replicas as `longreach status` tells them, from leases and reports."""

from __future__ import annotations

from pathlib import Path

from cluster.config import parse_config
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.local.observe import PoolStatus, StateView, observe, pool_statuses, read_state
from cluster.local.rundir import RunDir

CONFIG = parse_config(
    """
models: [{id: m}]
pools:
  - {name: short, model: m, context_tokens: 100, replicas: {min: 2, max: 2}}
  - {name: long, model: m, context_tokens: 1000}
  - {name: away, model: m, context_tokens: 5000, endpoints: [{url: 'http://127.0.0.1:1'}]}
"""
)


def lease(replica: str, pool: str, state: ReplicaState = ReplicaState.READY, running: int = 1) -> Lease:
    return Lease(
        replica_id=ReplicaId(replica),
        pool=PoolName(pool),
        model="m",
        url="http://127.0.0.1:30000/short",
        state=state,
        context_tokens=100,
        running=running,
        waiting=2,
        kv_use_ratio=0.5,
        step_age_s=0,
    )


def report(replica: str, pool: str, phase: ReplicaPhase, *, age_s: float = 1, error: str = "") -> ReplicaReport:
    return ReplicaReport(
        replica_id=ReplicaId(replica),
        pool=PoolName(pool),
        phase=phase,
        detail=f"{phase} it",
        pid=7,
        node="n",
        phase_s=age_s,
        last_error=error,
    )


def pools(state: StateView) -> dict[str, PoolStatus]:
    return {pool.name: pool for pool in pool_statuses(CONFIG, state)}


def test_nothing_yet() -> None:
    found = pools(StateView())
    assert [found[name].phase for name in ("short", "long", "away")] == ["waiting", "waiting", "static"]
    assert found["away"].is_ready
    assert not found["long"].is_ready


def test_load_is_summed_and_drainers_are_not_ready() -> None:
    state = StateView(
        leases=(lease("a", "short"), lease("b", "short", ReplicaState.DRAINING), lease("c", "long")),
        reports=(report("c", "long", ReplicaPhase.SERVING),),
    )
    found = pools(state)
    assert (found["short"].ready, found["short"].target) == (1, 2)
    assert (found["short"].running, found["short"].waiting, found["short"].kv_use_ratio) == (2, 4, 0.5)
    assert not found["short"].is_ready
    assert found["long"].phase == "ready"
    assert [replica.lease for replica in found["short"].replicas] == ["ready", "draining"]


def test_start_up_shows_the_youngest_replica() -> None:
    state = StateView(
        reports=(
            report("old", "long", ReplicaPhase.FAILED, error="out of memory"),
            report("new", "long", ReplicaPhase.LOADING),
        )
    )
    found = pools(state)["long"]
    assert (found.phase, found.detail, found.last_error) == ("loading", "loading it", "out of memory")


def test_state_store_that_is_away_is_told_not_raised() -> None:
    assert read_state("redis://127.0.0.1:1/0", "c").error
    assert read_state(None, "c") == StateView()


def test_cluster_that_never_ran(tmp_path: Path) -> None:
    assert observe(RunDir(root=tmp_path), cluster="x").phase == "stopped"
