"""What others do, on the same trace and the same cards: the routers that Longreach is compared with, and
Ray Serve's scaling.

What must not live here: Longreach's own decisions (cluster/simulator/production.py).
"""

from cluster.simulator.baselines.kinds import Baseline, baseline_router
from cluster.simulator.baselines.prefix import ApproximatePrefix, ExactPrefix
from cluster.simulator.baselines.request_count import RequestCountScaler
from cluster.simulator.baselines.shared import LeastRequest, PowerOfTwo, RoundRobin, ShortestFirst
from cluster.simulator.baselines.static import StaticPools

__all__ = [
    "ApproximatePrefix",
    "Baseline",
    "ExactPrefix",
    "LeastRequest",
    "PowerOfTwo",
    "RequestCountScaler",
    "RoundRobin",
    "ShortestFirst",
    "StaticPools",
    "baseline_router",
]
