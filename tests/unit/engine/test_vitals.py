"""The evidence about an engine, from pings that stay open and from real processes; only the clock is made up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import psutil
import pytest

from cluster.core.liveness import IDLE_S, STOPPED_S, SUSPECT_S, Health
from cluster.engine import vitals
from cluster.engine.vitals import Vitals

STALL_S = 60.0


@dataclass(slots=True)
class Clock:
    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@dataclass(slots=True)
class Pings:
    """An engine core that answers when told to."""

    asked: list[asyncio.Future[object]] = field(default_factory=list)
    answers_at_once: bool = False

    def __call__(self) -> asyncio.Future[object]:
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.answers_at_once:
            future.set_result(False)
        self.asked.append(future)
        return future


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(vitals, "time", SimpleNamespace(monotonic=made.monotonic))
    monkeypatch.setattr(vitals, "PING_PERIOD_S", 0.001)
    return made


@pytest.fixture
def computing() -> Iterator[psutil.Process]:
    """A process that would always run."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


@pytest.fixture
def child() -> Iterator[psutil.Process]:
    """A process that sleeps: it uses no CPU."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def watch(pings: Pings, *processes: psutil.Process) -> Vitals:
    return Vitals(ping=pings, processes=list(processes), stall_s=STALL_S)


def stop(process: psutil.Process) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def make_zombie(process: psutil.Process) -> None:
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


async def test_answered_pings_mean_alive(clock: Clock, child: psutil.Process) -> None:
    pings = Pings(answers_at_once=True)
    watched = watch(pings, child)
    for _ in range(3):
        clock.now_s += 1000
        assert (await watched.look()).health is Health.ALIVE
        assert watched.step_age_s == 0
    assert len(pings.asked) == 3


async def test_an_open_ping_is_not_opened_again(clock: Clock, child: psutil.Process) -> None:
    pings = Pings()
    watched = watch(pings, child)
    await watched.look()
    clock.now_s += SUSPECT_S - 0.1
    assert (await watched.look()).health is Health.ALIVE
    assert watched.step_age_s == pytest.approx(SUSPECT_S - 0.1)
    clock.now_s += 0.1
    assert (await watched.look()).health is Health.BUSY
    assert len(pings.asked) == 1
    pings.asked[0].set_result(False)
    assert (await watched.look()).health is Health.ALIVE
    assert watched.step_age_s == 0


async def test_a_stopped_process_means_stalled(clock: Clock, child: psutil.Process) -> None:
    watched = watch(Pings(), psutil.Process(), child)
    await watched.look()
    stop(child)
    clock.now_s += STOPPED_S - 0.1
    assert (await watched.look()).health is Health.ALIVE
    clock.now_s += 0.1
    verdict = await watched.look()
    assert verdict.health is Health.STALLED
    assert "stopped or gone" in verdict.reason


async def test_a_stopped_process_that_goes_on_is_forgiven(clock: Clock, child: psutil.Process) -> None:
    pings = Pings()
    watched = watch(pings, child)
    await watched.look()
    stop(child)
    clock.now_s += 1
    await watched.look()
    child.send_signal(signal.SIGCONT)
    pings.asked[0].set_result(False)
    clock.now_s += 1
    assert (await watched.look()).health is Health.ALIVE


async def test_a_zombie_means_stalled(clock: Clock, child: psutil.Process) -> None:
    watched = watch(Pings(), child)
    await watched.look()
    make_zombie(child)
    clock.now_s += STOPPED_S
    assert (await watched.look()).health is Health.STALLED


async def test_a_process_that_is_gone_means_stalled(clock: Clock, child: psutil.Process) -> None:
    watched = watch(Pings(), child)
    await watched.look()
    child.kill()
    child.wait()
    clock.now_s += STOPPED_S
    assert (await watched.look()).health is Health.STALLED


async def test_no_cpu_use_means_stalled(clock: Clock, child: psutil.Process) -> None:
    watched = watch(Pings(), child)
    await watched.look()
    clock.now_s += SUSPECT_S + 1
    assert (await watched.look()).health is Health.BUSY
    clock.now_s += IDLE_S - 0.1
    assert (await watched.look()).health is Health.BUSY
    clock.now_s += 0.1
    verdict = await watched.look()
    assert verdict.health is Health.STALLED
    assert "no CPU use" in verdict.reason


async def test_an_engine_that_waits_for_a_core_is_busy(
    clock: Clock, child: psutil.Process, computing: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CPU time stands still, as on a node whose cores others have."""
    still = computing.cpu_times()
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: still)
    watched = watch(Pings(), computing, child)
    await watched.look()
    for _ in range(3):
        clock.now_s += IDLE_S
        assert (await watched.look()).health is Health.BUSY


async def test_a_long_step_that_computes_is_busy_until_the_limit(clock: Clock) -> None:
    myself = psutil.Process()
    watched = watch(Pings(), myself)
    await watched.look()
    for _ in range(int(STALL_S / IDLE_S) - 1):
        clock.now_s += IDLE_S
        use_cpu(myself)
        assert (await watched.look()).health is Health.BUSY
    clock.now_s += IDLE_S
    use_cpu(myself)
    verdict = await watched.look()
    assert verdict.health is Health.STALLED
    assert f"limit {STALL_S:g} s" in verdict.reason


def use_cpu(myself: psutil.Process) -> None:
    """Compute until the kernel's clock ticks have seen it."""
    before = myself.cpu_times()
    while myself.cpu_times()[:2] == before[:2]:
        sum(range(10_000))


async def test_idleness_is_counted_anew_for_each_ping(clock: Clock, child: psutil.Process) -> None:
    pings = Pings()
    watched = watch(pings, child)
    for _ in range(3):
        await watched.look()
        clock.now_s += IDLE_S - 1
        assert (await watched.look()).health is Health.BUSY
        pings.asked[-1].set_result(False)
        assert (await watched.look()).health is Health.ALIVE


async def test_what_the_ping_raises_is_passed_on_and_forgotten(clock: Clock, child: psutil.Process) -> None:
    pings = Pings()
    watched = watch(pings, child)
    await watched.look()
    pings.asked[0].set_exception(ConnectionError("engine dead"))
    with pytest.raises(ConnectionError, match="engine dead"):
        await watched.look()
    pings.answers_at_once = True
    assert (await watched.look()).health is Health.ALIVE


async def test_close_forgets_the_open_ping(clock: Clock, child: psutil.Process) -> None:
    pings = Pings()
    watched = watch(pings, child)
    watched.close()
    await watched.look()
    watched.close()
    assert pings.asked[0].cancelled()
