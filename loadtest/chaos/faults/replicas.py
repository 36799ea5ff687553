"""Replicas, their engines, and Serve's controller.

What must not live here: other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

import psutil

from loadtest.chaos.fault import Fault, Told
from loadtest.chaos.plan import LONG, SHORT
from loadtest.chaos.target import HEAL_LIMIT_S, SEVERAL, ChaosError, Target

RESUMES = "longreach_resumes_total"
CONTROLLER = "ServeController"
TAKEN_OVER_S = 10.0


async def _replica(target: Target, pool: str, number: signal.Signals) -> None:
    # Few requests are documents.
    victim = await target.busiest(pool, at_least=1 if pool == LONG else SEVERAL)
    await _hit(target, victim.pid, number, victim.replica_id)


async def _engine(target: Target, pool: str, number: signal.Signals) -> None:
    victim = await target.busiest(pool)
    await _hit(target, target.engine_core(victim).pid, number, victim.replica_id)


async def _hit(target: Target, pid: int, number: signal.Signals, replica_id: str) -> None:
    process = psutil.Process(pid)
    process.send_signal(number)
    try:
        await target.whole(without=replica_id)
    finally:
        # Of the same process only, whoever has its number by now; one that was killed is gone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


async def kill_replica(target: Target) -> None:
    """The replica's process, under streams of the short pool."""
    await _replica(target, SHORT, signal.SIGKILL)


async def kill_long_replica(target: Target) -> None:
    """The same where only the other replica of the pool can hold the documents."""
    await _replica(target, LONG, signal.SIGKILL)


async def kill_engine(target: Target) -> None:
    """The engine's core process; the replica lives on."""
    await _engine(target, SHORT, signal.SIGKILL)


async def freeze_engine(target: Target) -> None:
    """The engine's core process stops without ending."""
    await _engine(target, SHORT, signal.SIGSTOP)


async def freeze_replica(target: Target) -> None:
    """The replica's process stops: its kernel goes on answering for it."""
    await _replica(target, SHORT, signal.SIGSTOP)


async def kill_controller(target: Target) -> Told:
    """Serve's controller; Ray starts another one, which takes the replicas over as they are."""
    before = {replica.replica_id for replica in await target.replicas()}
    old = _controller(target)
    old.kill()

    async def is_new() -> bool:
        with contextlib.suppress(ChaosError):
            return _controller(target).pid != old.pid
        return False

    await target.until(is_new, limit_s=HEAL_LIMIT_S, what="another Serve controller")
    # It looks at every replica at first, and stops those that it does not understand.
    await asyncio.sleep(TAKEN_OVER_S)
    await target.whole()
    kept = before & {replica.replica_id for replica in await target.replicas()}
    note = f"the new controller kept {len(kept)} of {len(before)} replicas"
    return Told(notes=[note], missed=[] if kept == before else [note])


def _controller(target: Target) -> psutil.Process:
    for process in target.processes():
        with contextlib.suppress(psutil.Error):
            if CONTROLLER in "".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                return process
    raise ChaosError("Serve's controller does not run")


FAULTS = (
    Fault(name="replica-killed", does="kill -9 of a replica in the short pool", run=kill_replica, moves=RESUMES),
    Fault(name="long-replica-killed", does="the same in the long pool", run=kill_long_replica, moves=RESUMES),
    Fault(name="engine-killed", does="kill -9 of a replica's EngineCore", run=kill_engine, moves=RESUMES),
    Fault(name="engine-frozen", does="SIGSTOP of a replica's EngineCore", run=freeze_engine, moves=RESUMES),
    Fault(name="replica-frozen", does="SIGSTOP of a replica", run=freeze_replica, moves=RESUMES, is_short=False),
    Fault(name="controller-killed", does="kill -9 of Ray Serve's controller", run=kill_controller),
)
