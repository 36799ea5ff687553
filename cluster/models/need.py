"""From a model's card to what the sizing of pools asks about it.

What must not live here: sizing (cluster/core/capacity).
"""

from __future__ import annotations

from cluster.core.capacity import STEP_RESERVE_BYTES, ModelNeed
from cluster.core.capacity.replica import RUNNING_MAX
from cluster.models.card import ModelCard

GIB = 2**30
STEP_TOKENS = 8_192
"""Tokens of a replica's step on a GPU (cluster/engine/settings.py)."""
ACTIVATION_BYTES = 2
"""Of one number: activations are in 16 bits, whatever the weights are in."""
LOGITS_BYTES = 4
"""Logits are sampled from in fp32."""
GRAPHS_AND_CONTEXT_BYTES = GIB
"""CUDA context and graphs, half a GiB each: reasoned, not measured."""


def model_need(card: ModelCard) -> ModelNeed:
    """What the model takes, and how far it can be divided; with more than the usual reserve where its step is large."""
    return ModelNeed(
        context_tokens=card.context_tokens,
        kv_bytes_per_token=card.kv_bytes_per_token,
        weights_bytes=card.weights_bytes,
        kv_heads=card.kv_heads,
        step_bytes=max(STEP_RESERVE_BYTES, activation_bytes(card) + GRAPHS_AND_CONTEXT_BYTES),
    )


def activation_bytes(card: ModelCard) -> int:
    """At the peak of a step: the MLP's gate and up, their product, two hidden states; then logits of what is sampled.

    vLLM measures this when it starts, with one step of the largest size. 0 where the shape is not known.
    """
    shape = card.shape
    if shape is None:
        return 0
    layer = STEP_TOKENS * (shape.step_width + shape.step_width // 2 + 2 * shape.hidden) * ACTIVATION_BYTES
    return layer + RUNNING_MAX * shape.vocabulary * LOGITS_BYTES
