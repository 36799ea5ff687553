"""GPUs: whether the device plugin offers them, whether feature discovery names them, whether they are whole.

What must not live here: how nodes become an inventory (cluster/kubernetes/nodes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.kubernetes.doctor.finding import Finding, error, fine, note, warning
from cluster.kubernetes.inventory import GpuKind, Inventory
from cluster.kubernetes.nodes import MEMORY_LABEL, PRODUCT_LABEL
from cluster.kubernetes.quantity import GIB

CARD_LABELS = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
"""Who sees that a card is plugged in, without a driver or a device plugin."""
OPERATOR_REMEDY = "install the NVIDIA GPU operator (driver, device plugin and feature discovery), and look at its pods"


def gpu_findings(nodes: Iterable[Mapping[str, Any]], inventory: Inventory, *, wants_gpus: bool) -> list[Finding]:
    """Everything about GPUs.

    Args:
        nodes: as the API gives them.
        inventory: made of them.
        wants_gpus: whether the release asks for any; without a release, or in a CPU trial, none are no mistake.
    """
    findings = []
    offered = {gpus.node for gpus in inventory.gpus}
    dumb = [
        node["metadata"]["name"]
        for node in nodes
        if node["metadata"]["name"] not in offered and _has_card(node["metadata"].get("labels") or {})
    ]
    if dumb:
        seen = f"nodes with NVIDIA cards offer none to pods: {_some(dumb)}"
        findings.append(error("gpus", seen, OPERATOR_REMEDY))
    if not inventory.gpus:
        tell = error if wants_gpus else warning
        findings.append(
            tell("gpus", "no node offers nvidia.com/gpu", f"{OPERATOR_REMEDY}; or use the CPU trial values")
        )
        return findings
    for kind in inventory.kinds():
        findings += _kind_findings(kind)
    if inventory.waiting_gpus:
        findings.append(
            warning(
                "gpus",
                f"pods wait for {inventory.waiting_gpus} GPUs that no node has free",
                "they will take what becomes free first: kubectl get pods -A --field-selector=status.phase=Pending",
            )
        )
    findings += [warning("gpus", text, "grant the rule, and run this again") for text in inventory.notes]
    return findings


def _kind_findings(kind: GpuKind) -> list[Finding]:
    nodes = sorted({gpus.node for gpus in kind.nodes})
    closed = sorted({gpus.node for gpus in kind.nodes if not gpus.takes_pods})
    memory = f"{kind.memory_bytes / GIB:.1f} GiB each" if kind.memory_bytes is not None else "memory not known"
    findings = [fine("gpus", f"{kind.label}: {kind.free} of {kind.allocatable} free on {len(nodes)} nodes, {memory}")]
    bare = sorted({gpus.node for gpus in kind.nodes if not gpus.memory_source.startswith("nvidia.com/")})
    if bare:
        findings.append(
            warning(
                "gpus",
                f"{_some(bare)} have no {PRODUCT_LABEL} or {MEMORY_LABEL}: a worker group that names products does not "
                "find them, and their memory is a guess from the cloud's label or not known",
                "run GPU feature discovery there (it comes with the GPU operator), or use nodeSelector",
            )
        )
    if any(gpus.shared_by > 1 for gpus in kind.nodes):
        findings.append(
            warning(
                "gpus",
                f"{kind.label} is time-sliced: several pods share a card and its memory",
                "keep whole cards (or MIG) for replicas: an engine takes gpu_memory_ratio of the card for itself",
            )
        )
    if closed:
        findings.append(note("gpus", f"{_some(closed)} take no pods now (not ready, or cordoned)"))
    return findings


def _has_card(labels: Mapping[str, str]) -> bool:
    return any(labels.get(label) == "true" for label in CARD_LABELS)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
