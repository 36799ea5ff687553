"""Which pool, then which endpoint: the routing core.

The words are those of llm-d's scheduler: **filters** say who cannot have a request (filters.py, room.py), **scorers**
how much each of the others deserves it, in [0, 1] (scorers.py), a **profile** holds filters and weights (profile.py),
a **picker** turns scores into an order (picker.py). `route` (route.py) is the story. The table (table.py) is what it
looks at: endpoints, their reports and what we sent them. Nothing here does I/O, reads a clock or draws randomness of
its own; what must not live here: sentences for clients, retries, waiting.
"""

from cluster.core.routing.breaker import Breakers, BreakerState
from cluster.core.routing.decision import Choice, Decision, NoEndpoint, Outcome, Rejected, Saturated, TooLong
from cluster.core.routing.endpoint import Endpoint
from cluster.core.routing.explain import explain
from cluster.core.routing.filters import FilterName
from cluster.core.routing.pools import ESTIMATE_ERROR_RATIO, Pool, fitting_pools
from cluster.core.routing.profile import Policy, Profile, profile_of
from cluster.core.routing.query import NO_FETCHES, NOTHING_RESIDENT, Fetch, HomeState, Query
from cluster.core.routing.ring import session_hash
from cluster.core.routing.room import Tier
from cluster.core.routing.route import route
from cluster.core.routing.table import EndpointTable
from cluster.core.routing.traffic import Share, shares_of

__all__ = [
    "ESTIMATE_ERROR_RATIO",
    "NOTHING_RESIDENT",
    "NO_FETCHES",
    "BreakerState",
    "Breakers",
    "Choice",
    "Decision",
    "Endpoint",
    "EndpointTable",
    "Fetch",
    "FilterName",
    "HomeState",
    "NoEndpoint",
    "Outcome",
    "Policy",
    "Pool",
    "Profile",
    "Query",
    "Rejected",
    "Saturated",
    "Share",
    "Tier",
    "TooLong",
    "explain",
    "fitting_pools",
    "profile_of",
    "route",
    "session_hash",
    "shares_of",
]
