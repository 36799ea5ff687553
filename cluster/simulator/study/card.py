"""A replica of Qwen3-4B on an H100, from a roofline: what the published comparisons are made on.

A step's matrix products take 2 FLOP for each weight and token; attention 4 FLOP for each layer, query head, head
dimension and pair of tokens (a product with the keys, one with the values); a decode step reads all weights once and
the KV cache of its sequences. Peaks are datasheet figures, of which a kernel reaches a share. What must not live here:
other cards and models (cluster/planner).
"""

from __future__ import annotations

from cluster.core.capacity import ModelNeed, kv_tokens
from cluster.core.capacity.step import StepCost
from cluster.simulator.cluster import ReplicaSpec

H100_BYTES = 81_559 * 2**20
"""What nvidia-smi shows of an H100 SXM 80 GB."""
H100_FLOPS = 989e12
"""Dense bf16 (NVIDIA H100 Tensor Core GPU datasheet, without sparsity)."""
H100_BYTES_PER_S = 3.35e12
"""HBM3, the same sheet."""
COMPUTE_RATIO = 0.5
"""Of the peak that prefill reaches, matrix products and attention alike. Papers on Hopper kernels give 0.5 to 0.75 for
kernels alone (FlashAttention-3: up to 0.75); between them lie norms, rotations and launches. Reasoned, not measured."""
MEMORY_RATIO = 0.8
"""Of the bandwidth that decode reaches. Reasoned, not measured."""
BASE_S = 0.002
"""Of any step beside the card's work: scheduling, launches of a CUDA graph, sampling, the answer's way out."""
GPU_MEMORY_RATIO = 0.9
"""vLLM's `gpu_memory_utilization`, Longreach's default."""

LAYERS, QUERY_HEADS, KV_HEADS, HEAD = 36, 32, 8, 128
WEIGHTS = 4.02e9
LAYER_WEIGHTS = 3.63e9
"""Without the embedding, which is only looked up, and computed for sampled tokens alone."""
BYTES = 2
"""bf16."""
QWEN3_4B = ModelNeed(
    context_tokens=262_144,
    kv_bytes_per_token=2 * LAYERS * KV_HEADS * HEAD * BYTES,
    weights_bytes=int(WEIGHTS * BYTES),
    kv_heads=KV_HEADS,
)


def step_cost() -> StepCost:
    """Seconds by what a step does; see above for the sums."""
    flops = H100_FLOPS * COMPUTE_RATIO
    bytes_per_s = H100_BYTES_PER_S * MEMORY_RATIO
    return StepCost(
        base_s=BASE_S,
        weights_s=QWEN3_4B.weights_bytes / bytes_per_s,
        token_s=2 * LAYER_WEIGHTS / flops,
        attention_s=4 * LAYERS * QUERY_HEADS * HEAD / flops,
        context_token_s=QWEN3_4B.kv_bytes_per_token / bytes_per_s,
    )


def replica(*, max_running: int, batch_tokens: int, max_queued: int) -> ReplicaSpec:
    """One card's replica; what is left to choose is how the engine is set."""
    return ReplicaSpec(
        cost=step_cost(),
        kv_tokens=kv_tokens(QWEN3_4B, card_bytes=H100_BYTES, ranks=1, memory_ratio=GPU_MEMORY_RATIO),
        max_running=max_running,
        max_queued=max_queued,
        batch_tokens=batch_tokens,
    )
