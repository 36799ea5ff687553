"""Waiting for pools: what is said, and when hope ends."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from cluster.core.errors import SetupError
from cluster.core.lease import ReplicaPhase
from cluster.local import watch
from cluster.local.observe import PoolStatus, ReplicaStatus


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


def test_wait_is_bounded() -> None:
    with pytest.raises(SetupError, match="pool long not ready after 0 s"):
        wait(lambda: (pool("short", 1), pool("long")), timeout_s=0)
