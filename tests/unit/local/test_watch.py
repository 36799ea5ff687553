"""Waiting for pools: what is said, and when hope ends."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from cluster.config import parse_config
from cluster.core.errors import SetupError
from cluster.core.lease import PoolName, ReplicaId, ReplicaPhase, ReplicaReport
from cluster.local import up, watch
from cluster.local.journal import Journal, Phase
from cluster.local.observe import PoolStatus, ReplicaStatus
from cluster.local.rundir import RunDir
from cluster.local.state_view import StateView


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0.0)


def replica(phase: ReplicaPhase, error: str = "") -> ReplicaStatus:
    return ReplicaStatus(
        replica_id="r",
        pid=1,
        phase=phase,
        detail="",
        phase_s=1,
        lease="",
        url="",
        running=0,
        waiting=0,
        kv_use_ratio=0,
        last_error=error,
    )


def failure(replica_id: str, *, written_s: float) -> ReplicaReport:
    return ReplicaReport(
        replica_id=ReplicaId(replica_id),
        pool=PoolName("short"),
        phase=ReplicaPhase.FAILED,
        detail="did not start",
        pid=1,
        node="n",
        phase_s=1,
        written_s=written_s,
        last_error="broken",
    )


def pool(name: str, ready: int = 0, detail: str = "importing vLLM") -> PoolStatus:
    return PoolStatus(
        name=name,
        model="m",
        context_tokens=10,
        is_static=False,
        ready=ready,
        target=1,
        phase="ready" if ready else "importing",
        detail="" if ready else detail,
        running=0,
        waiting=0,
        kv_use_ratio=0,
        last_error="",
        last_error_age_s=None,
        replicas=(),
    )


def sequence(*looks: tuple[PoolStatus, ...]) -> Callable[[], tuple[PoolStatus, ...]]:
    steps: Iterator[tuple[PoolStatus, ...]] = iter(looks)
    return lambda: next(steps)


def wait(look: Callable[[], tuple[PoolStatus, ...]], timeout_s: float = 60) -> tuple[watch.PoolWatch, str]:
    out = io.StringIO()
    watching = watch.PoolWatch(look=look, console=Console(file=out), url="http://127.0.0.1:8080")
    watching.until_ready(timeout_s=timeout_s)
    return watching, out.getvalue()


def test_first_ready_pool_makes_it_usable() -> None:
    watching, said = wait(
        sequence(
            (pool("short"), pool("long", detail="waits")),
            (pool("short"), pool("long", detail="waits")),
            (pool("short", 1), pool("long")),
            (pool("short", 1), pool("long", 1)),
        )
    )
    assert "short pool ready after 0 s: usable now at http://127.0.0.1:8080/v1" in said
    assert said.count("usable now") == 1
    assert said.count("short: importing vLLM") == 1, "only changes are said"
    assert list(watching.ready_after_s) == ["short", "long"]


def test_pool_that_keeps_failing_ends_the_wait_with_its_error() -> None:
    broken = dataclasses.replace(
        pool("short"), replicas=(replica(ReplicaPhase.FAILED),) * watch.FAILURES_MAX, last_error="no such dtype"
    )
    with pytest.raises(SetupError, match=r"pool short failed 3 times\n  short: no such dtype") as failed:
        wait(lambda: (broken,))
    assert "longreach logs short" in failed.value.remedy


def test_failures_of_earlier_runs_are_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An external Redis remembers them for a day."""
    config = parse_config("models: [{id: m}]\npools: [{name: short, model: m, context_tokens: 100}]")
    reports = [failure(f"old-{number}", written_s=1000) for number in range(watch.FAILURES_MAX)]
    reports.append(failure("new", written_s=5000))
    monkeypatch.setattr(up, "read_state", lambda *_: StateView(reports=tuple(reports), read_s=5001))
    journal = Journal(run="r", phase=Phase.STARTING, source="c.yaml", began_s=4000)

    def look() -> tuple[PoolStatus, ...]:
        return up._look(config, "redis://x", RunDir(root=tmp_path), journal)

    with pytest.raises(SetupError, match="pool short not ready after 0 s"):
        wait(look, timeout_s=0)
    reports += [failure(f"new-{number}", written_s=5000) for number in range(watch.FAILURES_MAX - 1)]
    with pytest.raises(SetupError, match=r"pool short failed 3 times\n  short: broken"):
        wait(look)


def test_wait_is_bounded() -> None:
    with pytest.raises(SetupError, match="pool long not ready after 0 s"):
        wait(lambda: (pool("short", 1), pool("long")), timeout_s=0)
