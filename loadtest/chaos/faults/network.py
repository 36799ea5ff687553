"""A replica that its network has forgotten.

What must not live here: how packets are dropped (loadtest/chaos/cut_off.py).
"""

from __future__ import annotations

import asyncio

import httpx
import psutil

from cluster.engine import orphans
from loadtest.chaos.cut_off import cut_off, why_none
from loadtest.chaos.fault import Fault
from loadtest.chaos.faults.replicas import RESUMES
from loadtest.chaos.plan import SHORT
from loadtest.chaos.target import ChaosError, Target

SILENCE_S = 2.0
"""A replica that does not even take a connection for so long is cut off."""


async def cut_replica_off(target: Target) -> None:
    """The network of a replica and its engine goes, until another one has its place."""
    victim = await target.busiest(SHORT)
    processes = [psutil.Process(victim.pid), *await asyncio.to_thread(orphans.engine_processes, victim.pid)]
    with cut_off(processes):
        await _silent(victim.url)
        await target.whole(without=victim.replica_id)


async def _silent(url: str) -> None:
    try:
        async with httpx.AsyncClient(timeout=SILENCE_S) as client:
            await client.get(f"{url}/health")
    except httpx.TimeoutException:
        return
    raise ChaosError(f"{url} should be cut off and answers")


FAULTS = (
    Fault(
        name="replica-cut-off",
        does="no TCP packet reaches a replica in the short pool any more, or leaves it, as when its node is cut off",
        run=cut_replica_off,
        moves=RESUMES,
        is_short=False,
        lacks=why_none,
    ),
)
