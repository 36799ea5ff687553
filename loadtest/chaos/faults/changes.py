"""What operators do to a cluster under load.

What must not live here: how it is done (cluster/local/reload.py).
"""

from __future__ import annotations

from loadtest.chaos.fault import Fault
from loadtest.chaos.plan import ENGINE, LONG, REPLICAS, SHORT
from loadtest.chaos.target import HEAL_LIMIT_S, Target


async def scale_down(target: Target) -> None:
    """One replica fewer in the short pool, and back."""
    await target.busiest(SHORT)
    await target.change(SHORT, replicas={"min": 1, "max": 1})
    await target.whole(wanted={SHORT: 1, LONG: REPLICAS})
    await target.change(SHORT, replicas={"min": REPLICAS, "max": REPLICAS})
    await target.whole()


async def roll(target: Target) -> None:
    """Another engine setting in the short pool: Serve replaces its replicas, one after another."""
    old = {replica.replica_id for replica in await target.replicas(SHORT)}
    await target.change(SHORT, engine={**ENGINE, "max_queued": ENGINE["max_queued"] + 1})

    async def all_new() -> bool:
        found = {replica.replica_id for replica in await target.replicas(SHORT)}
        return len(found) == REPLICAS and not found & old

    await target.until(all_new, limit_s=2 * HEAL_LIMIT_S, what="replicas of the short pool with the new setting")


FAULTS = (
    Fault(name="scale-down", does="the short pool goes from two replicas to one, and back", run=scale_down),
    Fault(name="rolling-change", does="an engine setting of the short pool, `config reload --roll`", run=roll),
)
