"""A plan as files: the configuration's models and pools, and the chart's values.

What must not live here: deciding anything (plan.py); what a values file is made of (cluster/kubernetes/values.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.core.errors import SetupError
from cluster.gpus import GpuSpec
from cluster.kubernetes.inventory import GpuKind, NodeGpus
from cluster.kubernetes.nodes import GPU, PRODUCT_LABEL
from cluster.kubernetes.values import PoolValues, Wish, kind_key, model_section, values_of
from cluster.models.card import Dtype
from cluster.planner.plan import Plan

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class EmittedPool:
    """One pool of a plan, with or without a workload."""

    name: str
    gpu: str
    context_tokens: int
    ranks: int
    replicas: tuple[int, int]
    """That the load needs, and that there is room for."""
    max_running: int
    kv_tokens: int


def emitted_pools(plan: Plan) -> tuple[EmittedPool, ...]:
    """The recommended pools.

    Raises:
        SetupError: the plan has none.
    """
    if plan.layouts is not None and plan.layouts.found:
        return tuple(
            EmittedPool(
                name=pool.name,
                gpu=pool.shape.gpu.name,
                context_tokens=pool.context_tokens,
                ranks=pool.shape.ranks,
                replicas=(pool.replicas, pool.replicas),
                max_running=pool.max_running,
                kv_tokens=pool.shape.kv_tokens,
            )
            for pool in plan.layouts.found[0].pools
        )
    if plan.sizing is not None and plan.sizing.pools:
        words = ["long" if pool.is_long else "short" for pool in plan.sizing.pools]
        return tuple(
            EmittedPool(
                name=word if words.count(word) == 1 else f"{word}-{pool.kind.lower()}",
                gpu=pool.kind,
                context_tokens=pool.context_tokens,
                ranks=pool.tensor_parallel,
                replicas=(1, pool.replicas),
                max_running=pool.max_running,
                kv_tokens=pool.kv_tokens,
            )
            for word, pool in zip(words, plan.sizing.pools, strict=True)
        )
    why = plan.layouts.refused if plan.layouts is not None else plan.notes[:1]
    raise SetupError(
        f"there is no layout to write: {'; '.join(why) or 'neither cards nor work are given'}",
        "give --workload (what is to be served), or cards (--gpu L4:8); or a looser --slo, or faster GPUs",
    )


def config_of(plan: Plan) -> dict[str, Any]:
    """The configuration's models and pools: for a cluster whose nodes are the pools' own business."""
    gpus = {gpu.name: gpu for gpu in plan.question.gpus}
    pools = [_section(pool, gpus[pool.gpu], plan) for pool in emitted_pools(plan)]
    return {"models": [model_section(_wish(plan))], "pools": pools}


def values_of_plan(plan: Plan) -> dict[str, Any]:
    """The chart's values: the same, with a worker group for each kind and number of cards.

    Raises:
        SetupError: a pool is on processors, which the planner has no worker group for.
    """
    pools = emitted_pools(plan)
    if any(gpu.is_cpu for gpu in plan.question.gpus):
        raise SetupError(
            "worker groups are planned for GPUs only",
            "take --emit config, and deploy/helm/longreach/examples/cpu-trial.yaml for the worker group",
        )
    wish = _wish(plan)
    kinds = {gpu.name: _kind(gpu) for gpu in plan.question.gpus}
    wanted = [
        PoolValues(
            name=pool.name,
            kind=kind_key(kinds[pool.gpu]),
            context_tokens=pool.context_tokens,
            tensor_parallel=pool.ranks,
            replicas=pool.replicas,
            max_running=pool.max_running,
        )
        for pool in pools
    ]
    return values_of(wanted, {kind_key(kind): kind for kind in kinds.values()}, wish)


def as_text(plan: Plan, document: dict[str, Any]) -> str:
    """As a file: what it is for on top, then YAML."""
    import yaml

    question = plan.question
    lines = [
        f"# Written by `longreach plan`: {question.card.id} on {', '.join(gpu.name for gpu in question.gpus)},",
        f"# up to {plan.context_tokens:,} tokens. Estimates: see the notes, and docs/capacity.md.",
    ]
    lines += [
        f"# Pool {pool.name}: at most {pool.replicas[1]} replicas of {pool.ranks} x {pool.gpu}, each with KV cache for "
        f"{pool.kv_tokens:,} tokens."
        for pool in emitted_pools(plan)
    ]
    lines += [f"# Note: {note}" for note in plan.notes]
    return "\n".join(lines) + "\n" + yaml.safe_dump(document, sort_keys=False, width=120)


def _wish(plan: Plan) -> Wish:
    question = plan.question
    return Wish(model=question.model, card=question.card, memory_ratio=question.memory_ratio)


def _section(pool: EmittedPool, gpu: GpuSpec, plan: Plan) -> dict[str, Any]:
    section: dict[str, Any] = {
        "name": pool.name,
        "model": plan.question.card.id,
        "context_tokens": pool.context_tokens,
        "accelerator": "cpu" if gpu.is_cpu else "cuda",
    }
    if pool.ranks > 1:
        section["tensor_parallel"] = pool.ranks
    section["replicas"] = {"min": pool.replicas[0], "max": pool.replicas[1]}
    engine: dict[str, Any] = {"max_running": pool.max_running}
    if gpu.is_cpu:
        engine["kv_cache_gib"] = round(pool.kv_tokens * plan.need.kv_bytes_per_token / GIB, 2)
    else:
        engine["gpu_memory_ratio"] = plan.question.memory_ratio
    if not gpu.has_bf16 and plan.question.card.dtype is Dtype.BFLOAT16:
        engine["dtype"] = str(Dtype.FLOAT16)
    return section | {"engine": engine}


def _kind(gpu: GpuSpec) -> GpuKind:
    """As an inventory has it of nodes that GPU feature discovery has labelled."""
    node = NodeGpus(
        node="",
        product=gpu.product,
        resource=GPU,
        selector=((PRODUCT_LABEL, gpu.product),),
        allocatable=0,
        free=0,
        memory_bytes=gpu.memory_bytes,
        memory_source="catalog",
        shared_by=1,
        compute=gpu.compute,
        cpu_free_milli=0,
        memory_free_bytes=0,
        taints=(),
        zone="",
        takes_pods=True,
    )
    return GpuKind(product=gpu.product, resource=GPU, nodes=(node,))
