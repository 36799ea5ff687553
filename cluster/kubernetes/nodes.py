"""From nodes and pods to the inventory: which label says what, and what is free.

Labels are those of NVIDIA's GPU feature discovery; where it does not run, the cloud's own label names the product and
the catalog of GPUs its memory. What must not live here: reading them from the API (reading.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.gpus import memory_by_cloud_name
from cluster.kubernetes.inventory import CpuNodes, Inventory, NodeGpus, Taint
from cluster.kubernetes.quantity import milli, whole

MIB = 2**20
GPU = "nvidia.com/gpu"
MIG = re.compile(r"nvidia\.com/mig-(?P<profile>[0-9a-z.+-]+)")
OTHER_ACCELERATORS = re.compile(
    r"(amd\.com/gpu|gpu\.intel\.com/.+|google\.com/tpu|aws\.amazon\.com/neuron.*|habana\.ai/.+)"
)
PRODUCT_LABEL = "nvidia.com/gpu.product"
MEMORY_LABEL = "nvidia.com/gpu.memory"
SHARED_LABEL = "nvidia.com/gpu.replicas"
COMPUTE_LABELS = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
ZONE_LABEL = "topology.kubernetes.io/zone"
CLOUD_LABELS = ("cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name")
"""Who names the product where GPU feature discovery does not run."""
OWN_TAINTS = "node.kubernetes.io/"
"""Taints that say how a node is, not whom it wants."""
BLOCKING = frozenset({"NoSchedule", "NoExecute"})


def inventory_of(
    nodes: Iterable[Mapping[str, Any]], used: Mapping[str, Counter[str]] | None, *, blind_because: str = ""
) -> Inventory:
    """Everything the nodes have, less what is taken.

    Args:
        nodes: of the whole cluster.
        used: what pods take of each node (`used_by_node`); None where they may not be seen: everything then counts as
            free, with a note.
        blind_because: why pods may not be seen, for that note.
    """
    taken = used or {}
    gpus: list[NodeGpus] = []
    others: set[str] = set()
    cpu = CpuNodes()
    for node in nodes:
        found = _gpus(node, taken.get(_name(node), Counter()))
        gpus += found
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        others |= {name for name in allocatable if OTHER_ACCELERATORS.fullmatch(name) and whole(allocatable[name])}
        if not found and _takes_pods(node):
            cpu = _with(cpu, node, taken.get(_name(node), Counter()))
    waiting = taken.get("", Counter())
    notes = () if used is not None else (f"what is allocatable is shown as free, for {blind_because}",)
    return Inventory(
        gpus=tuple(sorted(gpus, key=lambda found: (found.product, found.node, found.resource))),
        cpu=cpu,
        other_accelerators=tuple(sorted(others)),
        waiting_gpus=sum(count for name, count in waiting.items() if name == GPU or MIG.fullmatch(name)),
        notes=notes,
    )


def _gpus(node: Mapping[str, Any], used: Counter[str]) -> list[NodeGpus]:
    status = node.get("status") or {}
    allocatable = status.get("allocatable") or {}
    labels: Mapping[str, str] = (node.get("metadata") or {}).get("labels") or {}
    takes_pods = _takes_pods(node)
    cpu_free, memory_free = _free(node, used)
    found = []
    for resource in sorted(allocatable):
        mig = MIG.fullmatch(resource)
        count = whole(allocatable[resource])
        if count <= 0 or (resource != GPU and mig is None):
            continue
        product, selector = _product(labels)
        memory, source = _memory(labels, mig["profile"] if mig else None)
        found.append(
            NodeGpus(
                node=_name(node),
                product=product,
                resource=resource,
                selector=selector,
                allocatable=count,
                free=max(0, count - used[resource]) if takes_pods else 0,
                memory_bytes=memory,
                memory_source=source,
                shared_by=_shared_by(labels, mig["profile"] if mig else None),
                compute=_compute(labels),
                cpu_free_milli=cpu_free,
                memory_free_bytes=memory_free,
                taints=_taints(node),
                zone=labels.get(ZONE_LABEL, ""),
                takes_pods=takes_pods,
            )
        )
    return found


def _product(labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    for label in (PRODUCT_LABEL, *CLOUD_LABELS):
        if labels.get(label):
            return labels[label], ((label, labels[label]),)
    return "", ()


def _memory(labels: Mapping[str, str], profile: str | None) -> tuple[int | None, str]:
    """Of one device, and where that is from."""
    label = f"nvidia.com/mig-{profile}.memory" if profile is not None else MEMORY_LABEL
    if labels.get(label, "").isdigit():
        return int(labels[label]) * MIB, label
    if profile is None:
        known_mib = memory_by_cloud_name()
        for cloud in CLOUD_LABELS:
            name = labels.get(cloud, "")
            if name in known_mib:
                return known_mib[name] * MIB, f"{cloud}={name}"
    return None, ""


def _shared_by(labels: Mapping[str, str], profile: str | None) -> int:
    text = labels.get(SHARED_LABEL if profile is None else f"nvidia.com/mig-{profile}.replicas", "")
    # 0 is how feature discovery says that a kind is not handed out.
    return max(1, int(text)) if text.isdigit() else 1


def _compute(labels: Mapping[str, str]) -> tuple[int, int] | None:
    major, minor = (labels.get(label, "") for label in COMPUTE_LABELS)
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _taints(node: Mapping[str, Any]) -> tuple[Taint, ...]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return tuple(
        Taint(key=taint["key"], value=taint.get("value") or "", effect=taint["effect"])
        for taint in taints
        if taint["effect"] in BLOCKING and not taint["key"].startswith(OWN_TAINTS)
    )


def _takes_pods(node: Mapping[str, Any]) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and not (node.get("spec") or {}).get("unschedulable", False)


def _free(node: Mapping[str, Any], used: Counter[str]) -> tuple[int, int]:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    cpu = max(0, milli(allocatable.get("cpu")) - used["cpu"])
    return cpu, max(0, whole(allocatable.get("memory")) - used["memory"])


def _with(cpu: CpuNodes, node: Mapping[str, Any], used: Counter[str]) -> CpuNodes:
    cpu_free, memory_free = _free(node, used)
    return CpuNodes(
        nodes=cpu.nodes + 1,
        cpu_free_milli=cpu.cpu_free_milli + cpu_free,
        memory_free_bytes=cpu.memory_free_bytes + memory_free,
        largest_memory_free_bytes=max(cpu.largest_memory_free_bytes, memory_free),
    )


def _name(node: Mapping[str, Any]) -> str:
    return str((node.get("metadata") or {}).get("name", ""))
