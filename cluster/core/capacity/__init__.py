"""How much context a card holds, and which pools a set of cards can run: arithmetic on numbers that are passed in.

What must not live here: where the numbers come from (the model's card, a cluster's nodes), names of pools.
"""

from cluster.core.capacity.pools import CardSupply, SizedPool, Sizing, TooSmall, size_pools
from cluster.core.capacity.replica import (
    CONTEXTS_HELD,
    RANK_RESERVE_BYTES,
    STEP_RESERVE_BYTES,
    ModelNeed,
    context_limit,
    kv_tokens,
)

__all__ = [
    "CONTEXTS_HELD",
    "RANK_RESERVE_BYTES",
    "STEP_RESERVE_BYTES",
    "CardSupply",
    "ModelNeed",
    "SizedPool",
    "Sizing",
    "TooSmall",
    "context_limit",
    "kv_tokens",
    "size_pools",
]
