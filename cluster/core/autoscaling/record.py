"""What is kept of a pool's autoscaling for people, gateways and the next controller.

What must not live here: the store (cluster/state/autoscale.py), tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.autoscaling.demand import Arrivals, PoolDemand, PoolSpeed
from cluster.core.autoscaling.target import Bound, Decision
from cluster.core.lease import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleRecord:
    """One pool's latest decision, and what it was made from."""

    written_s: float
    """Seconds since the epoch."""
    min_replicas: int
    max_replicas: int
    pinned: int | None
    demand: PoolDemand
    decision: Decision
    ordered_s: float | None
    """When the first of the replicas that are on their way was ordered, since the epoch; None: there are none."""

    def starts_in_s(self, now_s: float) -> float | None:
        """Seconds until a replica that was ordered, or would be now, serves; None: not known yet.

        Args:
            now_s: since the epoch.
        """
        if self.demand.startup_s is None:
            return None
        since_s = 0.0 if self.ordered_s is None else max(now_s - self.ordered_s, 0.0)
        return max(self.demand.startup_s - since_s, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """For the store, and for `--json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AutoscaleRecord:
        """What `to_dict` made.

        Raises:
            KeyError: it is something else; so do TypeError and ValueError.
        """
        demand = dict(data["demand"])
        speed = demand.get("speed")
        return cls(
            written_s=float(data["written_s"]),
            min_replicas=int(data["min_replicas"]),
            max_replicas=int(data["max_replicas"]),
            pinned=None if data["pinned"] is None else int(data["pinned"]),
            demand=PoolDemand(
                **demand
                | {
                    "arrivals": Arrivals(**demand["arrivals"]),
                    "speed": None if speed is None else PoolSpeed(**speed),
                }
            ),
            decision=decision_from(data["decision"]),
            ordered_s=None if data["ordered_s"] is None else float(data["ordered_s"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDecision:
    """A decision that changed something."""

    written_s: float
    """Seconds since the epoch."""
    decision: Decision

    def to_dict(self) -> dict[str, Any]:
        """For the store, and for `--json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PastDecision:
        """What `to_dict` made; raises as `AutoscaleRecord.from_dict`."""
        return cls(written_s=float(data["written_s"]), decision=decision_from(data["decision"]))


def decision_from(data: Mapping[str, Any]) -> Decision:
    """A decision from its dictionary; raises as `AutoscaleRecord.from_dict`."""
    known = dict(data)
    return Decision(**known | {"bound": Bound(known["bound"]), "pool": PoolName(str(known["pool"]))})
