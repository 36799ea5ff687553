"""A values file of the chart, from an inventory and a model: pools, worker groups, and the reason for each number.

What must not live here: the arithmetic of memory (cluster/core/capacity), what a catalog entry is (cluster/models).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.core.capacity import (
    CONTEXTS_HELD,
    RANK_RESERVE_BYTES,
    USUAL_CONTEXT_RATIO,
    CardSupply,
    SizedPool,
    Sizing,
    size_pools,
)
from cluster.core.errors import SetupError
from cluster.kubernetes.inventory import GpuKind, Inventory, NodeGpus, Taint
from cluster.kubernetes.nodes import PRODUCT_LABEL
from cluster.models.card import Dtype, ModelCard, Quantization
from cluster.models.catalog import find
from cluster.models.need import model_need

GIB = 2**30
CPUS_PER_CARD = 3
"""One for the engine's loop, one for HTTP and tokenizing, one for Ray and copies to and from host memory."""
WORKER_BASE_GIB = 6
"""A worker pod without engines: Ray's processes, its object store, Python with torch."""
RANK_GIB = 6
"""Each rank's process: torch and CUDA in host memory, pinned buffers, and room for weights on their way to the card."""
SHM_PER_RANK_GIB = 2
"""Shared memory of ranks that talk through it; it counts against the pod's memory."""
COMPUTE_MIN = (7, 5)
"""Older cards (Volta and before) are not in the CUDA builds vLLM 0.32 comes with."""
COMPUTE_BF16 = (8, 0)
"""Older cards have no bfloat16."""
COMPUTE_FP8 = (8, 9)
"""Older cards have no FP8 arithmetic; vLLM 0.32 then keeps FP8 weights packed and computes in 16 bits (Marlin)."""
NAME_MAX = 24
"""Of a kind in pool and worker-group names: they become parts of pod names, of which 63 characters are legal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the options ask for."""

    model: str
    """As it was named."""
    card: ModelCard
    context_tokens: int | None = None
    memory_ratio: float = 0.9
    all_cards: bool = False
    """Count what other pods use too: for a cluster that will be emptied, or already runs this release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesPlan:
    """The values, and what a person should know of them."""

    values: dict[str, Any]
    sizing: Sizing
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolValues:
    """One pool, as it goes into the values."""

    name: str
    kind: str
    context_tokens: int
    tensor_parallel: int
    replicas: tuple[int, int]
    """At least and at most."""
    max_running: int


def plan_values(inventory: Inventory, wish: Wish) -> ValuesPlan:
    """The values for this model on this cluster.

    Raises:
        SetupError: nothing fits; it carries the numbers.
    """
    usable, notes = _usable(inventory, wish)
    if wish.context_tokens is not None and wish.context_tokens > wish.card.context_tokens:
        notes.append(
            f"{wish.context_tokens:,} tokens were asked for, and {wish.card.id} itself ends at "
            f"{wish.card.context_tokens:,}"
        )
    names = _names([kind for kind in inventory.kinds() if kind_key(kind) in usable])
    supplies = [_supply(kind, wish) for kind in usable.values()]
    sizing = size_pools(
        model_need(wish.card), supplies, memory_ratio=wish.memory_ratio, wanted_tokens=wish.context_tokens
    )
    refused = [f"{usable[small.kind].label}: {small.why}" for small in sizing.left_out]
    if not sizing.pools:
        raise _nothing_fits(inventory, wish, [*notes, *refused])
    if sizing.reached_tokens < sizing.wanted_tokens:
        notes.append(
            f"the longest context is {sizing.reached_tokens:,} tokens, not {sizing.wanted_tokens:,}: more needs cards "
            "with more memory, more of them in one node, or a quantized model"
        )
    pools = [
        PoolValues(
            name=name,
            kind=pool.kind,
            context_tokens=pool.context_tokens,
            tensor_parallel=pool.tensor_parallel,
            replicas=(1, pool.replicas),
            max_running=pool.max_running,
        )
        for pool, name in zip(sizing.pools, _pool_names(sizing.pools, names), strict=True)
    ]
    values = values_of(pools, usable, wish)
    return ValuesPlan(values=values, sizing=sizing, notes=(*inventory.notes, *notes, *refused))


def values_of(pools: Sequence[PoolValues], kinds: Mapping[str, GpuKind], wish: Wish) -> dict[str, Any]:
    """The values for these pools; `kinds` by what the pools call them (`kind_key`), in the order that names follow."""
    names = _names(list(kinds.values()))
    sections, groups = [], {}
    for pool in pools:
        group = names[pool.kind] + (f"-x{pool.tensor_parallel}" if pool.tensor_parallel > 1 else "")
        groups[group] = _worker_group(kinds[pool.kind], pool.tensor_parallel)
        sections.append(_pool(pool, group, wish, kinds[pool.kind]))
    return {"config": {"models": [model_section(wish)], "pools": sections}, "workerGroups": groups}


def values_text(plan: ValuesPlan, wish: Wish) -> str:
    """The values as a file: what it is made of on top, then YAML."""
    import yaml

    card = wish.card
    lines = [
        "# Values for the chart longreach, written by `longreach k8s values`. Check them, then:",
        "#   helm install NAME deploy/helm/longreach --values THIS_FILE",
        f"# Model {card.id}: {card.weights_bytes / GIB:.1f} GiB of weights,",
        f"# {card.kv_bytes_per_token:,} bytes of KV cache a token. A card gives {wish.memory_ratio:.0%} of its memory,",
        f"# less weights, less {model_need(card).step_bytes / GIB:.3g} GiB for a step",
        f"# (and {RANK_RESERVE_BYTES / GIB:g} GiB with tensor parallelism).",
        f"# A replica holds at least {CONTEXTS_HELD:g} full contexts. It runs as many requests at once as fit, of",
        f"# {USUAL_CONTEXT_RATIO:.0%} of the limit, or the next shorter pool's limit where that is more.",
    ]
    for pool, section in zip(plan.sizing.pools, plan.values["config"]["pools"], strict=True):
        lines.append(
            f"# Pool {section['name']}: {pool.replicas} replicas of {pool.tensor_parallel} card(s), KV cache of "
            f"{pool.kv_tokens:,} tokens = {pool.full_contexts:.1f} full contexts, "
            f"{pool.max_running} at once"
        )
    lines += [f"# Note: {note}" for note in plan.notes]
    return "\n".join(lines) + "\n" + yaml.safe_dump(plan.values, sort_keys=False, width=120)


def model_section(wish: Wish) -> dict[str, Any]:
    """Of the configuration: under its own id, and the name it was asked for by."""
    card = wish.card
    if wish.model == card.id:
        return {"id": card.id}
    # A catalog model keeps its id, whose card replicas know; the name it was asked for by works too.
    return {"id": card.id, "source": wish.model} if find(card.id) is None else {"id": card.id, "aliases": [wish.model]}


def kind_key(kind: GpuKind) -> str:
    """What tells a kind from others."""
    return f"{kind.product} {kind.resource}"


def _usable(inventory: Inventory, wish: Wish) -> tuple[dict[str, GpuKind], list[str]]:
    """The kinds that can be planned with, and why others cannot."""
    usable: dict[str, GpuKind] = {}
    notes: list[str] = []
    for kind in inventory.kinds():
        why = _unusable(kind)
        if why:
            notes.append(f"{kind.label} is left out: {why}")
        else:
            usable[kind_key(kind)] = kind
            if kind.is_slice:
                notes.append(f"{kind.label}: a replica is one MIG slice, for slices cannot serve a model together")
            if wish.card.quantization is Quantization.FP8 and _is_below(kind, COMPUTE_FP8):
                notes.append(
                    f"{kind.label} has no FP8 arithmetic: {wish.card.id} saves memory there and no time, and a "
                    "checkpoint made with fbgemm_fp8 does not start below compute capability 8.0"
                )
    notes += [f"{name} is left out: vLLM's CUDA build does not use it" for name in inventory.other_accelerators]
    if wish.all_cards:
        notes.append("cards are counted that other pods use now (--all-cards)")
    return usable, notes


def _unusable(kind: GpuKind) -> str:
    first = kind.nodes[0]
    if kind.memory_bytes is None:
        return "its memory is not known: install GPU feature discovery, which labels nodes with nvidia.com/gpu.memory"
    if any(gpus.shared_by > 1 for gpus in kind.nodes):
        return "its cards are time-sliced, so that others can take the memory a replica counts on"
    if _is_below(kind, COMPUTE_MIN):
        return f"its compute capability is below {COMPUTE_MIN[0]}.{COMPUTE_MIN[1]}"
    return "" if first.selector else "no label of its nodes names the product, so no pod could ask for it"


def _is_below(kind: GpuKind, compute: tuple[int, int]) -> bool:
    """Whether a card of this kind is known to be older."""
    return any(gpus.compute is not None and gpus.compute < compute for gpus in kind.nodes)


def _supply(kind: GpuKind, wish: Wish) -> CardSupply:
    assert kind.memory_bytes is not None
    return CardSupply(
        kind=kind_key(kind),
        memory_bytes=kind.memory_bytes,
        cards_by_node=tuple(_cards(gpus, all_cards=wish.all_cards) for gpus in kind.nodes),
        # CUDA shows a process one MIG slice, and NCCL does not connect slices.
        spans=not kind.is_slice,
    )


def _cards(gpus: NodeGpus, *, all_cards: bool) -> int:
    """Cards of a node that a worker pod could have, CPU and memory beside them included."""
    if not gpus.takes_pods:
        return 0
    if all_cards:
        return gpus.allocatable
    by_cpu = gpus.cpu_free_milli // (CPUS_PER_CARD * 1000)
    # As if each card had a pod of its own: the case that takes most.
    by_memory = gpus.memory_free_bytes // (_worker_memory_gib(1) * GIB)
    return max(0, min(gpus.free, by_cpu, by_memory))


def _worker_memory_gib(ranks: int) -> int:
    return WORKER_BASE_GIB + (RANK_GIB + (SHM_PER_RANK_GIB if ranks > 1 else 0)) * ranks


def _names(kinds: Sequence[GpuKind]) -> dict[str, str]:
    """A short name for each kind, no two alike."""
    names: dict[str, str] = {}
    for kind in kinds:
        text = kind.product if kind.resource == "nvidia.com/gpu" else f"{kind.product}-{kind.resource.split('/')[1]}"
        slug = re.sub(r"[^a-z0-9]+", "-", text.lower().replace("nvidia", "").replace("tesla", "")).strip("-")
        name = base = slug[:NAME_MAX].strip("-") or "gpu"
        number = 1
        while name in names.values():
            number += 1
            name = f"{base}-{number}"
        names[kind_key(kind)] = name
    return names


def _pool_names(pools: Sequence[SizedPool], names: Mapping[str, str]) -> list[str]:
    words = ["long" if pool.is_long else "short" for pool in pools]
    return [
        word if words.count(word) == 1 else f"{word}-{names[pool.kind]}"
        for word, pool in zip(words, pools, strict=True)
    ]


def _pool(pool: PoolValues, group: str, wish: Wish, kind: GpuKind) -> dict[str, Any]:
    section: dict[str, Any] = {
        "name": pool.name,
        "model": wish.card.id,
        "context_tokens": pool.context_tokens,
        "worker_group": group,
        "accelerator": "cuda",
    }
    if pool.tensor_parallel > 1:
        section["tensor_parallel"] = pool.tensor_parallel
    section["replicas"] = {"min": pool.replicas[0], "max": pool.replicas[1]}
    section["engine"] = {"gpu_memory_ratio": wish.memory_ratio, "max_running": pool.max_running}
    if _is_below(kind, COMPUTE_BF16) and wish.card.dtype is Dtype.BFLOAT16:
        section["engine"]["dtype"] = str(Dtype.FLOAT16)
    return section


def _worker_group(kind: GpuKind, ranks: int) -> dict[str, Any]:
    memory = f"{_worker_memory_gib(ranks)}Gi"
    (label, value) = kind.nodes[0].selector[0]
    gpu: dict[str, Any] = {"count": ranks, "resource": kind.resource}
    group: dict[str, Any] = {"gpu": gpu}
    if label == PRODUCT_LABEL:
        gpu["products"] = [value]
    else:
        group["nodeSelector"] = {label: value}
    group["resources"] = {
        "requests": {"cpu": str(CPUS_PER_CARD * ranks), "memory": memory},
        "limits": {"memory": memory},
    }
    if ranks > 1:
        group["shmSize"] = f"{SHM_PER_RANK_GIB * ranks}Gi"
    tolerations = [_toleration(taint) for taint in kind.taints]
    if tolerations:
        group["tolerations"] = tolerations
    return group


def _toleration(taint: Taint) -> dict[str, str]:
    if taint.value:
        return {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}
    return {"key": taint.key, "operator": "Exists", "effect": taint.effect}


def _nothing_fits(inventory: Inventory, wish: Wish, reasons: Sequence[str]) -> SetupError:
    free = sum(kind.free for kind in inventory.kinds())
    if not inventory.gpus:
        return SetupError(
            "no node offers nvidia.com/gpu",
            "install the NVIDIA GPU operator or device plugin; `longreach k8s doctor` says what is missing",
        )
    remedy = "choose a smaller or quantized model (`longreach models list`), or a shorter --context-tokens"
    if not free and not wish.all_cards:
        remedy = "free some cards, or plan with all of them: --all-cards"
    return SetupError(f"{wish.card.id} fits on no card here: " + "; ".join(reasons), remedy)
