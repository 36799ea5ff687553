"""A simulated replica of a model on one card, from the planner's roofline.

What must not live here: the sums (cluster/planner), which card.
"""

from __future__ import annotations

from cluster.core.errors import SetupError
from cluster.gpus import GpuSpec
from cluster.models.card import ModelCard
from cluster.models.need import model_need
from cluster.planner.shapes import shapes_of
from cluster.simulator.cluster import ReplicaSpec

BATCH_TOKENS = 2048
"""Of a step. On Mooncake's trace the best of 2,048, 4,096 and 8,192 for goodput, of shared pools and of ours: with
more, the time between two tokens leaves the service level while some prompt is computed."""
LONG_PREFILL_TOKENS = 512
"""Most of a step that one long prompt gets while others are there (vLLM's `long_prefill_token_threshold`). On
Mooncake's trace the best of 256, 512, 1,024 and none for a pool with long prompts: it takes two thirds off TTFT p99 of
short ones and adds a tenth to that of long ones."""
GPU_MEMORY_RATIO = 0.9
"""vLLM's `gpu_memory_utilization` and the configuration's default."""


def planned_replica(card: ModelCard, gpu: GpuSpec, *, batch_tokens: int = BATCH_TOKENS) -> ReplicaSpec:
    """A replica on one card.

    Raises:
        SetupError: the card does not hold the model and some context.
    """
    shape = shapes_of(card, model_need(card), gpu, most_ranks=1, memory_ratio=GPU_MEMORY_RATIO)[0]
    if not shape.context_tokens:
        raise SetupError(
            f"one {gpu.name} holds {shape.kv_tokens:,} tokens beside the weights of {card.id}: too little for a pool",
            "name a larger card, with --gpu",
        )
    return ReplicaSpec(cost=shape.cost, kv_tokens=shape.kv_tokens, batch_tokens=batch_tokens)
