"""What operators do to a cluster under load.

What must not live here: how it is done (cluster/local/reload.py).
"""

from __future__ import annotations

import time

import psutil

from loadtest.chaos.fault import Fault, Told
from loadtest.chaos.plan import ENGINE, LONG, REPLICAS, SHORT
from loadtest.chaos.target import HEAL_LIMIT_S, Target


async def scale_down(target: Target) -> Told:
    """One replica fewer in the short pool, until it has ended, and back."""
    await target.busiest(SHORT)
    before = {replica.replica_id: replica.pid for replica in await target.replicas(SHORT)}
    begun_s = time.monotonic()
    await target.change(SHORT, replicas={"min": 1, "max": 1})
    await target.whole(wanted={SHORT: 1, LONG: REPLICAS})
    kept = {replica.replica_id for replica in await target.replicas(SHORT)}

    async def has_ended() -> bool:
        return not any(psutil.pid_exists(pid) for replica_id, pid in before.items() if replica_id not in kept)

    await target.until(has_ended, limit_s=HEAL_LIMIT_S, what="the replica that is too many ends")
    ended_s = time.monotonic() - begun_s
    await target.change(SHORT, replicas={"min": REPLICAS, "max": REPLICAS})
    await target.whole()
    return Told(notes=[f"the replica that was too many had ended after {ended_s:.0f} s"])


async def roll(target: Target) -> None:
    """Another engine setting in the short pool: Serve replaces its replicas, one after another."""
    old = {replica.replica_id for replica in await target.replicas(SHORT)}
    now = target.section(SHORT)["engine"]["max_queued"]
    usual = ENGINE["max_queued"]
    await target.change(SHORT, engine={**ENGINE, "max_queued": usual + 1 if now == usual else usual})

    async def all_new() -> bool:
        found = {replica.replica_id for replica in await target.replicas(SHORT)}
        return len(found) == REPLICAS and not found & old

    await target.until(all_new, limit_s=2 * HEAL_LIMIT_S, what="replicas of the short pool with the new setting")


FAULTS = (
    Fault(name="scale-down", does="the short pool goes from two replicas to one, and back", run=scale_down),
    Fault(name="rolling-change", does="an engine setting of the short pool, `config reload --roll`", run=roll),
)
