"""Up to which length the smaller of two pools takes requests, following the traffic.

A pool's context limit says what it can hold; the boundary says what it should. What must not live here: routing by it
(`Pool.prefers_tokens`, cluster/core/routing/pools.py), counting replicas, clocks.
"""

from cluster.core.boundary.adaptive import AdaptiveBoundary, Boundary
from cluster.core.boundary.lengths import Band, LengthsSeen, LengthWork, together
from cluster.core.boundary.live import LivePool, decide_live
from cluster.core.boundary.record import BoundaryRecord, GatewaySeen, PairSeen, of_pair
from cluster.core.boundary.waits import Split, Station

__all__ = [
    "AdaptiveBoundary",
    "Band",
    "Boundary",
    "BoundaryRecord",
    "GatewaySeen",
    "LengthWork",
    "LengthsSeen",
    "LivePool",
    "PairSeen",
    "Split",
    "Station",
    "decide_live",
    "of_pair",
    "together",
]
