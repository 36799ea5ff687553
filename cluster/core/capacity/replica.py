"""What one replica holds: KV cache beside weights and scratch memory, and the context limit that follows.

vLLM takes `gpu_memory_ratio` of a card, loads the weights, runs one largest step to see what that leaves behind, and
makes KV blocks of the rest. The same sum is made here, with constants for what only the running engine can measure.
What must not live here: choosing between cards (pools.py).
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30
STEP_RESERVE_BYTES = 2 * GIB
"""On every card: activations of a step of 8,192 tokens (below 1 GiB for models up to some 30B), the CUDA context (about
0.5 GiB) and CUDA graphs (up to 0.5 GiB). Reasoned, not measured: no GPU was at hand. vLLM's log says what it found."""
RANK_RESERVE_BYTES = GIB
"""With tensor parallelism, more on every card: NCCL's and the custom all-reduce's buffers."""
CONTEXTS_HELD = 1.25
"""KV cache of a replica, in full contexts: one in flight, and some prefix or a short request beside it. With exactly
one, a single longest request would stop every other in its pool."""
BLOCK_TOKENS = 16
"""vLLM gives KV cache out in blocks of this size."""
LIMIT_STEP_TOKENS = 1024
"""Limits are round numbers, so that two nodes whose drivers report slightly different memory get the same one."""
LIMIT_MIN_TOKENS = 4096
"""A pool below this refuses ordinary chats: the card is then too small for the model."""

USUAL_CONTEXT_RATIO = 0.25
"""What a request usually takes of its pool's limit: few prompts come near the longest that is allowed. Reasoned, not
measured. Where they take more, some wait in the engine for blocks while the gateway sees free places there."""
RUNNING_MAX = 128
"""Sequences decoded together at most: CUDA graphs and logits of more are not in STEP_RESERVE_BYTES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeed:
    """What a model takes, and how far it can be divided."""

    context_tokens: int
    """Its own limit."""
    kv_bytes_per_token: int
    weights_bytes: int
    kv_heads: int | None = None
    """Tensor parallelism divides KV cache by heads; None is not known: it is then not divided."""
    step_bytes: int = STEP_RESERVE_BYTES
    """On every card, for what is neither weights nor KV cache."""

    def ranks(self, most: int) -> tuple[int, ...]:
        """Numbers of cards a replica can be spread over, at most `most`: powers of two that divide the KV heads.

        More ranks than KV heads would copy KV cache instead of dividing it.
        """
        found, ranks = [1], 2
        while self.kv_heads is not None and ranks <= most and self.kv_heads % ranks == 0:
            found.append(ranks)
            ranks *= 2
        return tuple(found)


def kv_room_bytes(model: ModelNeed, *, card_bytes: int, ranks: int, memory_ratio: float) -> int:
    """Bytes on each card that are left for KV cache; 0 where the weights do not even fit.

    Args:
        model: what is served.
        card_bytes: memory of one card.
        ranks: cards of a replica (tensor parallel).
        memory_ratio: share of a card the engine may take.
    """
    reserve = model.step_bytes + (RANK_RESERVE_BYTES if ranks > 1 else 0)
    return max(0, int(card_bytes * memory_ratio) - -(-model.weights_bytes // ranks) - reserve)


def kv_blocks(room_bytes: int, *, token_bytes: int, block_tokens: int = BLOCK_TOKENS) -> int:
    """Whole blocks of KV cache that fit, as vLLM counts them (`num_gpu_blocks`, on a CPU too).

    Args:
        room_bytes: for KV cache on one card.
        token_bytes: KV cache of one token there.
        block_tokens: tokens of a block; vLLM's CPU engine takes 128.
    """
    return room_bytes // (token_bytes * block_tokens)


def kv_tokens(model: ModelNeed, *, card_bytes: int, ranks: int, memory_ratio: float) -> int:
    """Tokens whose KV a replica holds, in whole blocks."""
    if ranks not in model.ranks(ranks):
        raise ValueError(f"{model.kv_heads} KV heads are not divided by {ranks} ranks")
    room = kv_room_bytes(model, card_bytes=card_bytes, ranks=ranks, memory_ratio=memory_ratio)
    return kv_blocks(room, token_bytes=-(-model.kv_bytes_per_token // ranks)) * BLOCK_TOKENS


def context_limit(model: ModelNeed, *, card_bytes: int, ranks: int, memory_ratio: float) -> int:
    """The longest context (prompt plus output) a pool of such replicas can promise; 0 where it is not worth a pool."""
    held = kv_tokens(model, card_bytes=card_bytes, ranks=ranks, memory_ratio=memory_ratio)
    tokens = int(held / CONTEXTS_HELD)
    if tokens >= model.context_tokens:
        return model.context_tokens
    limit = tokens // LIMIT_STEP_TOKENS * LIMIT_STEP_TOKENS
    return limit if limit >= LIMIT_MIN_TOKENS else 0


def running_limit(*, held_tokens: int, context_tokens: int, shorter_tokens: int) -> int:
    """Requests that a replica should run at once (`max_running`): as many usual ones as its KV cache holds.

    Args:
        held_tokens: tokens whose KV the replica holds.
        context_tokens: limit of its pool.
        shorter_tokens: limit of the next shorter pool, 0 where there is none. What fits there goes there, so no
            request here is usual that is shorter.
    """
    usual = max(int(context_tokens * USUAL_CONTEXT_RATIO), shorter_tokens, 1)
    return min(max(held_tokens // usual, 1), RUNNING_MAX)
