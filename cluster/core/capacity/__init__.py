"""How much context a card holds, and which pools a set of cards can run: arithmetic on numbers that are passed in.

What must not live here: where the numbers come from (the model's card, a cluster's nodes), names of pools.
"""

from cluster.core.capacity.pools import CardSupply, SizedPool, Sizing, TooSmall, size_pools
from cluster.core.capacity.replica import (
    CONTEXTS_HELD,
    RANK_RESERVE_BYTES,
    STEP_RESERVE_BYTES,
    USUAL_CONTEXT_RATIO,
    ModelNeed,
    context_limit,
    kv_tokens,
    running_limit,
)

__all__ = [
    "CONTEXTS_HELD",
    "RANK_RESERVE_BYTES",
    "STEP_RESERVE_BYTES",
    "USUAL_CONTEXT_RATIO",
    "CardSupply",
    "ModelNeed",
    "SizedPool",
    "Sizing",
    "TooSmall",
    "context_limit",
    "kv_tokens",
    "running_limit",
    "size_pools",
]
