"""How many replicas each pool should have, from the work there is and is coming.

What must not live here: where the numbers come from, starting and stopping replicas (cluster/control).
"""

from cluster.core.autoscaling.demand import Arrivals, PoolDemand, PoolSpeed
from cluster.core.autoscaling.policy import PoolAutoscaler
from cluster.core.autoscaling.speed import SpeedCounters, SpeedMeter
from cluster.core.autoscaling.target import Bound, Decision, ServiceLevel, Target

__all__ = [
    "Arrivals",
    "Bound",
    "Decision",
    "PoolAutoscaler",
    "PoolDemand",
    "PoolSpeed",
    "ServiceLevel",
    "SpeedCounters",
    "SpeedMeter",
    "Target",
]
