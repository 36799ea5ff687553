"""The gateway and its workers.

What must not live here: how clients retry (asking.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import psutil

from loadtest.chaos.fault import Fault
from loadtest.chaos.plan import WORKERS
from loadtest.chaos.supervised import Supervised
from loadtest.chaos.target import HEAL_LIMIT_S, Target

DOWN_S = 1.0
"""How long a supervisor takes to notice."""
TRIES = 40
"""Of a client, half a second apart: a gateway needs some seconds to start on a busy machine."""


async def kill_worker(target: Target) -> None:
    """One of the workers; the parent starts another."""
    victim = target.gateway_workers()[0]
    victim.kill()

    async def is_replaced() -> bool:
        found = [process for process in target.gateway_workers() if process.status() != psutil.STATUS_ZOMBIE]
        return len(found) == WORKERS and victim not in found

    await target.until(is_replaced, limit_s=HEAL_LIMIT_S, what="another worker")
    await target.whole()


async def kill_gateway(target: Target) -> None:
    """Parent and workers at once; a supervisor starts it again."""
    await restart_gateway(target, down_s=DOWN_S)
    await target.whole()


async def restart_gateway(target: Target, *, down_s: float = 0.0, variables: Mapping[str, str] | None = None) -> None:
    """Kill it and start it, with more variables in its environment; it listens when this returns.

    Raises:
        ChaosError: it does not come back.
    """
    gateway = Supervised(target.run_dir, "gateway")
    await gateway.kill()
    target.run_dir.gateway_ready.unlink(missing_ok=True)
    await asyncio.sleep(down_s)
    gateway.start(variables)

    async def listens() -> bool:
        return target.run_dir.gateway_ready.exists()

    await target.until(listens, limit_s=HEAL_LIMIT_S, what="the gateway listens")


FAULTS = (
    Fault(
        name="gateway-worker-killed",
        does="kill -9 of one of the gateway's workers; clients ask again",
        run=kill_worker,
        tries=TRIES,
    ),
    Fault(
        name="gateway-killed",
        does="kill -9 of the whole gateway, started again after 1 s; clients ask again",
        run=kill_gateway,
        tries=TRIES,
    ),
)
