"""How fast a model is on a kind of GPU, from the GPU's peaks: the roofline (Williams, Waterman, Patterson 2009).

A step takes the longer of computing its tokens and reading the weights, and beside that attention and the KV cache that
decoding reads. With tensor parallelism every layer sums its results over the ranks twice (Shoeybi et al. 2019,
Megatron-LM). What must not live here: measuring (calibrate.py), the sum over a step (cluster/core/capacity/step.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.capacity.step import StepCost
from cluster.gpus import GpuSpec, Link
from cluster.models.card import ModelCard, Quantization
from cluster.models.need import ACTIVATION_BYTES
from cluster.planner.weights import bytes_each

ERROR_RATIO = 0.3
"""How far prefill and decode may be off, up or down: the efficiencies below are assumptions, and published figures for
them spread about so far. Calibration replaces it by the residuals of a fit."""
COMPUTE_RATIO = 0.5
"""Of peak arithmetic, what a large step of matrix products reaches (MFU). Assumed: published prefill figures lie
between 0.4 and 0.75 (Pope et al. 2022, "Efficiently Scaling Transformer Inference": up to 0.76, on TPUs)."""
ATTENTION_RATIO = 0.4
"""The same for attention over a long prompt. Assumed: FlashAttention-2 reaches 0.5 to 0.73 on A100 (Dao 2023),
FlashAttention-3 up to 0.75 on H100 (Shah et al. 2024); kernels over a paged cache, in chunks, reach less."""
BANDWIDTH_RATIO = 0.7
"""Of peak memory bandwidth, what decoding reaches (MBU). Assumed."""
BASE_S = 0.002
"""Scheduling, launches with CUDA graphs, sampling, and the answer's way out, of each step. Assumed."""
BASE_CPU_S = 0.005
"""The same on a processor, where the engine's three processes share the cores. Assumed."""
REDUCE_NVLINK_S = 10e-6
"""One sum over the ranks, however small. Assumed: of vLLM's own all-reduce over NVLink, and below, of NCCL's over
PCIe."""
REDUCE_PCIE_S = 40e-6
LINK_RATIO = 0.7
"""Of a link's bandwidth, what a sum over the ranks reaches. Assumed."""
REDUCES_PER_LAYER = 2
"""After attention and after the MLP (Shoeybi et al. 2019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a model's step is made of, in flops and bytes."""

    token_flops: float
    """Matrix products of one token."""
    pair_flops: float
    """Attention of one token to one other: two products of query heads x head size, two flops each."""
    weights_bytes: int
    context_token_bytes: int
    """KV cache of one token of context, read for each token that is decoded."""
    reduced_bytes: int
    """What the ranks sum up for one token, in all layers."""
    reduces: int
    """Sums over the ranks in one step."""
    is_guessed: bool
    """The card has no shape: every weight counts as multiplied, and attention is what the KV cache tells."""


def work_of(card: ModelCard) -> Work:
    """The work of a model's step."""
    shape = card.shape
    if shape is None:
        parameters = card.weights_bytes / bytes_each(card)
        return Work(
            token_flops=2 * parameters,
            # Keys and values take two numbers each that is multiplied once; query heads share them, commonly by four.
            pair_flops=4 * 4 * card.kv_bytes_per_token / (2 * card.dtype.size_bytes),
            weights_bytes=card.weights_bytes,
            context_token_bytes=card.kv_bytes_per_token,
            reduced_bytes=0,
            reduces=0,
            is_guessed=True,
        )
    sums = REDUCES_PER_LAYER * shape.layers
    return Work(
        token_flops=2.0 * shape.token_parameters,
        pair_flops=4.0 * shape.attention_layers * shape.query_heads * shape.head_dim,
        weights_bytes=card.weights_bytes,
        context_token_bytes=card.kv_bytes_per_token,
        reduced_bytes=sums * shape.hidden * ACTIVATION_BYTES,
        reduces=sums,
        is_guessed=False,
    )


def step_cost(card: ModelCard, gpu: GpuSpec, ranks: int) -> StepCost:
    """Seconds of a replica of `ranks` GPUs.

    A mixture of experts reads every expert in each step: right from some 32 sequences on, too slow below.
    """
    work = work_of(card)
    compute, attention, memory = COMPUTE_RATIO, ATTENTION_RATIO, BANDWIDTH_RATIO
    if gpu.is_measured:
        compute = attention = memory = 1.0
    bandwidth = gpu.bandwidth_bytes_per_s * memory * ranks
    return StepCost(
        base_s=(BASE_CPU_S if gpu.is_cpu else BASE_S) + _reduce_s(work, gpu, ranks),
        weights_s=work.weights_bytes / bandwidth,
        token_s=work.token_flops / (flops(card, gpu) * compute * ranks) + _reduced_s(work, gpu, ranks),
        attention_s=work.pair_flops / (gpu.flops_16 * attention * ranks),
        context_token_s=work.context_token_bytes / bandwidth,
    )


def flops(card: ModelCard, gpu: GpuSpec) -> float:
    """Peak arithmetic for the model's matrix products: fp8 where both have it; 4 bits are unpacked to 16 first."""
    return gpu.flops_8 if card.quantization is Quantization.FP8 and gpu.flops_8 else gpu.flops_16


def _reduce_s(work: Work, gpu: GpuSpec, ranks: int) -> float:
    if ranks == 1:
        return 0.0
    return work.reduces * (REDUCE_NVLINK_S if gpu.link is Link.NVLINK else REDUCE_PCIE_S)


def _reduced_s(work: Work, gpu: GpuSpec, ranks: int) -> float:
    """A ring sends each rank's part twice past all others: 2 (n - 1) / n of the bytes (Patarasuk and Yuan 2009)."""
    if ranks == 1:
        return 0.0
    return 2 * (ranks - 1) / ranks * work.reduced_bytes / (gpu.link_bytes_per_s * LINK_RATIO)
