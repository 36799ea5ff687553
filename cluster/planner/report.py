"""A plan for programs: what `longreach plan --json` prints.

What must not live here: reckoning anything (plan.py), tables (cluster/cli/plan_view.py).
"""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

from cluster.gpus import GpuSpec
from cluster.models.need import activation_bytes
from cluster.planner.emit import emitted_pools
from cluster.planner.layout import Layout, PlannedPool
from cluster.planner.plan import Plan
from cluster.planner.shapes import Shape
from cluster.planner.weights import weight_formats


def gpu_report(gpu: GpuSpec) -> dict[str, Any]:
    """A kind of GPU."""
    return {
        "name": gpu.name,
        "memory_bytes": gpu.memory_bytes,
        "bandwidth_bytes_per_s": gpu.bandwidth_bytes_per_s,
        "flops_16": gpu.flops_16,
        "flops_8": gpu.flops_8,
        "has_bf16": gpu.has_bf16,
        "compute": list(gpu.compute),
        "link": str(gpu.link),
        "link_bytes_per_s": gpu.link_bytes_per_s,
        "is_measured": gpu.is_measured,
        "sources": dict(gpu.sources),
    }


def plan_report(plan: Plan) -> dict[str, Any]:
    """Everything about a plan; numbers that are infinite are null."""
    card, load = plan.question.card, plan.question.load
    has_pools = bool((plan.layouts and plan.layouts.found) or (plan.sizing and plan.sizing.pools))
    return {
        "model": {
            "id": card.id,
            "dtype": str(card.dtype),
            "quantization": str(card.quantization),
            "weights_bytes": card.weights_bytes,
            "weights_by_format": {one.name: one.weights_bytes for one in weight_formats(card)},
            "parameters": card.shape.parameters if card.shape is not None else None,
            "token_parameters": card.shape.token_parameters if card.shape is not None else None,
            "kv_bytes_per_token": card.kv_bytes_per_token,
            "context_tokens": card.context_tokens,
            "context_kv_bytes": card.context_tokens * card.kv_bytes_per_token,
            "activation_bytes": activation_bytes(card),
            "step_reserve_bytes": plan.need.step_bytes,
        },
        "shapes": [shape_report(shape) for shape in plan.shapes],
        "wanted_tokens": plan.wanted_tokens,
        "context_tokens": plan.context_tokens,
        "level": asdict(plan.question.level),
        "workload": None
        if load is None
        else {
            "requests_per_s": load.requests_per_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "arrival_cv2": load.arrival_cv2,
            "cached_ratio": load.cached_ratio,
            "classes": len(load.classes),
        },
        "pools": [asdict(pool) for pool in emitted_pools(plan)] if has_pools else [],
        "layouts": [_layout(layout) for layout in plan.layouts.found] if plan.layouts else [],
        "refused": list(plan.layouts.refused) if plan.layouts else [],
        "cost": asdict(plan.cost) if plan.cost is not None else None,
        "speed_error_ratio": plan.error_ratio,
        "notes": list(plan.notes),
    }


def shape_report(shape: Shape) -> dict[str, Any]:
    """What a replica of a shape holds and does."""
    return {
        "gpu": shape.gpu.name,
        "cards": shape.ranks,
        "weights_bytes_per_card": shape.weights_bytes,
        "kv_bytes_per_card": shape.kv_room_bytes,
        "kv_tokens": shape.kv_tokens,
        "context_tokens": shape.context_tokens,
        "prefill_tokens_per_s": shape.prefill_tokens_per_s,
        "decode_tokens_per_s": shape.decode_tokens_per_s,
        "longest_prefill_s": shape.prefill_s(shape.context_tokens) if shape.context_tokens else None,
        "cost": asdict(shape.cost),
        "is_measured": shape.is_measured,
    }


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "boundaries": list(layout.boundaries),
        "weight": layout.weight,
        "missing": dict(layout.missing),
        "short_wait_p99_s": _finite(layout.short_wait_s),
        "pools": [_pool(pool) for pool in layout.pools],
    }


def _pool(pool: PlannedPool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": pool.name,
        "gpu": pool.shape.gpu.name,
        "tensor_parallel": pool.shape.ranks,
        "context_tokens": pool.context_tokens,
        "replicas": pool.replicas,
        "cards": pool.cards,
        "max_running": pool.max_running,
        "requests_per_s": pool.load.requests_per_s if pool.load is not None else 0.0,
    }
    if pool.found is not None:
        outcome = pool.found.outcome
        row |= {
            "limit": str(pool.found.limit),
            "ttft_met_ratio": pool.found.met_ratio,
            "use_ratio": outcome.use_ratio,
            "running": _finite(outcome.running),
            "itl_s": _finite(outcome.itl_s),
            "kv_ratio": _finite(outcome.kv_ratio),
        }
    return row


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
