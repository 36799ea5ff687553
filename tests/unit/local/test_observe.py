"""Pools and replicas as `longreach status` tells them, from leases and reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster.config import parse_config
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.local.observe import PoolStatus, observe, pool_statuses
from cluster.local.rundir import RunDir
from cluster.local.state_view import StateView, read_state

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


def report(
    replica: str, pool: str, phase: ReplicaPhase, *, age_s: float = 1, written_s: float = 0, error: str = ""
) -> ReplicaReport:
    return ReplicaReport(
        replica_id=ReplicaId(replica),
        pool=PoolName(pool),
        phase=phase,
        detail=f"{phase} it",
        pid=7,
        node="n",
        phase_s=age_s,
        written_s=written_s,
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
            report("z-old", "long", ReplicaPhase.FAILED, written_s=100, error="out of memory"),
            report("killed", "long", ReplicaPhase.IMPORTING, written_s=101, age_s=0.1),
            report("a-new", "long", ReplicaPhase.LOADING, written_s=130, age_s=20),
        ),
        read_s=160,
    )
    found = pools(state)["long"]
    assert (found.phase, found.detail, found.last_error) == ("loading", "loading it", "out of memory")
    assert found.last_error_age_s == 60


def test_latest_error_is_shown_not_the_last_by_name() -> None:
    state = StateView(
        reports=(
            report("a", "long", ReplicaPhase.FAILED, written_s=200, error="second"),
            report("b", "long", ReplicaPhase.FAILED, written_s=100, error="first"),
        ),
        read_s=210,
    )
    assert (pools(state)["long"].last_error, pools(state)["long"].last_error_age_s) == ("second", 10)


def test_error_is_over_once_a_newer_replica_serves() -> None:
    failed = report("a", "long", ReplicaPhase.FAILED, written_s=100, error="out of memory")
    healed = StateView(reports=(failed, report("b", "long", ReplicaPhase.SERVING, written_s=150)), read_s=200)
    assert (pools(healed)["long"].last_error, pools(healed)["long"].last_error_age_s) == ("", None)
    assert [replica.last_error for replica in pools(healed)["long"].replicas] == ["out of memory", ""]
    failing = StateView(reports=(failed, report("b", "long", ReplicaPhase.SERVING, written_s=50)), read_s=200)
    assert pools(failing)["long"].last_error == "out of memory", "an older replica proves nothing"


def test_pool_whose_replica_died_waits_for_serve_not_for_its_turn() -> None:
    assert "its turn" in pools(StateView())["long"].detail
    died = StateView(reports=(report("a", "long", ReplicaPhase.SERVING),))
    assert (pools(died)["long"].phase, pools(died)["long"].detail) == (
        "waiting",
        "waiting for Serve to start a replacement",
    )
    growing = StateView(leases=(lease("a", "short"),), reports=(report("a", "short", ReplicaPhase.SERVING),))
    assert pools(growing)["short"].detail == "waiting for Serve to start another replica"
    long_ago = report("f", "long", ReplicaPhase.FAILED, written_s=10, error="no")
    served = StateView(reports=(long_ago, report("s", "long", ReplicaPhase.SERVING, written_s=20)))
    assert pools(served)["long"].phase == "waiting", "that failure is history"
    broken = StateView(reports=(report("s", "long", ReplicaPhase.STOPPED, written_s=5), long_ago))
    assert pools(broken)["long"].phase == "failed"


def test_a_drained_replica_is_no_loss_that_serve_replaces() -> None:
    drained = replace(lease("a", "long", ReplicaState.DRAINING), is_drained=True)
    found = pools(StateView(leases=(drained,), reports=(report("a", "long", ReplicaPhase.SERVING),)))["long"]
    assert [replica.lease for replica in found.replicas] == ["drained"]
    assert (found.ready, found.phase, found.detail) == (0, "waiting", "drained by an operator: a")


def test_reports_of_earlier_runs_are_left_out() -> None:
    state = StateView(
        leases=(lease("l", "long"),),
        reports=(
            report("old", "long", ReplicaPhase.FAILED, written_s=1000),
            report("new", "long", ReplicaPhase.FAILED, written_s=2000),
        ),
        read_s=2001,
    )
    since = state.since(1999.5)
    assert [found.replica_id for found in since.reports] == ["new"]
    assert (since.leases, since.read_s) == (state.leases, 2001)
    # The replica's clock may be a little behind.
    assert [found.replica_id for found in state.since(2001).reports] == ["new"]


def test_state_store_that_is_away_is_told_not_raised() -> None:
    assert read_state("redis://127.0.0.1:1/0", "c").error
    assert read_state(None, "c").reports == ()


def test_cluster_that_never_ran(tmp_path: Path) -> None:
    assert observe(RunDir(root=tmp_path), cluster="x").phase == "stopped"
