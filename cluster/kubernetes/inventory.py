"""What the cluster's nodes have: GPUs of each kind, how many are free, memory, CPU, taints, zones.

What lives here: the frozen description, and its JSON. What must not: making it (nodes.py, usage.py), sizing
(cluster/core/capacity).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cluster.core.errors import SetupError

FORMAT = 1
"""Of the JSON; a file of another format is refused rather than half understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node's own wish to be left alone; pods need a toleration for it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def text(self) -> str:
        """As kubectl writes it."""
        return f"{self.key}{'=' + self.value if self.value else ''}:{self.effect}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGpus:
    """The devices of one kind on one node, with what the node has beside them."""

    node: str
    product: str
    """As GPU feature discovery names it; empty where nothing names it."""
    resource: str
    """What pods request: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`."""
    selector: tuple[tuple[str, str], ...]
    """The node label that tells this kind from others; empty where there is none."""
    allocatable: int
    free: int
    """Allocatable, less what pods request; 0 on a node that takes no pods."""
    memory_bytes: int | None
    """Of one device; None is not known."""
    memory_source: str
    """Where that is from: a label, or the product's name."""
    shared_by: int
    """Pods that share one device (time slicing); 1 is a device of one's own."""
    compute: tuple[int, int] | None
    """CUDA compute capability; None is not known."""
    cpu_free_milli: int
    memory_free_bytes: int
    taints: tuple[Taint, ...]
    zone: str
    takes_pods: bool
    """Ready and not cordoned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuNodes:
    """The nodes without GPUs, all together."""

    nodes: int = 0
    cpu_free_milli: int = 0
    memory_free_bytes: int = 0
    largest_memory_free_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything `longreach k8s inventory` shows."""

    gpus: tuple[NodeGpus, ...]
    cpu: CpuNodes
    other_accelerators: tuple[str, ...] = ()
    """Resources of accelerators that vLLM's CUDA build does not use."""
    waiting_gpus: int = 0
    """Requested by pods that no node has taken yet."""
    notes: tuple[str, ...] = ()
    """What could not be seen, and what follows from it."""
    format: int = FORMAT

    def kinds(self) -> tuple[GpuKind, ...]:
        """The devices grouped by kind, most memory first."""
        groups: dict[tuple[str, str], list[NodeGpus]] = {}
        for gpus in self.gpus:
            groups.setdefault((gpus.product, gpus.resource), []).append(gpus)
        kinds = [
            GpuKind(product=product, resource=resource, nodes=tuple(found))
            for (product, resource), found in groups.items()
        ]
        return tuple(sorted(kinds, key=lambda kind: (-(kind.memory_bytes or 0), kind.product, kind.resource)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKind:
    """Devices of one product and resource, over all nodes."""

    product: str
    resource: str
    nodes: tuple[NodeGpus, ...] = field(repr=False)

    @property
    def is_slice(self) -> bool:
        """Whether a device is a MIG slice of a card: by its resource, or (single strategy) by the product's name."""
        return self.resource.startswith("nvidia.com/mig-") or "-MIG-" in self.product

    @property
    def allocatable(self) -> int:
        """Devices that pods could have."""
        return sum(gpus.allocatable for gpus in self.nodes)

    @property
    def free(self) -> int:
        """Devices that pods could have now."""
        return sum(gpus.free for gpus in self.nodes)

    @property
    def memory_bytes(self) -> int | None:
        """Of one device: the least that a node says, None where a node does not say it."""
        sizes = [gpus.memory_bytes for gpus in self.nodes]
        known = [size for size in sizes if size is not None]
        return min(known) if len(known) == len(sizes) and known else None

    @property
    def zones(self) -> tuple[str, ...]:
        """Where they are."""
        return tuple(sorted({gpus.zone for gpus in self.nodes if gpus.zone}))

    @property
    def taints(self) -> tuple[Taint, ...]:
        """Every taint on any of the nodes."""
        return tuple(dict.fromkeys(taint for gpus in self.nodes for taint in gpus.taints))

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.product or 'unknown product'}" + (
            "" if self.resource == "nvidia.com/gpu" else f" ({self.resource})"
        )


def inventory_from_json(text: str, *, origin: str) -> Inventory:
    """The inventory that `longreach k8s inventory --json` printed.

    Raises:
        SetupError: it is none, or one of another version.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        found: Inventory = TypeAdapter(Inventory).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise SetupError(
            f"{origin} is no inventory: {where}: {first['msg']}", "write it with `longreach k8s inventory --json`"
        ) from error
    if found.format != FORMAT:
        raise SetupError(
            f"{origin} has format {found.format}, this program reads {FORMAT}",
            "write it anew with `longreach k8s inventory --json`",
        )
    return found


def inventory_to_dict(inventory: Inventory) -> dict[str, Any]:
    """As `inventory_from_json` reads it, with the groups beside it for people's programs."""
    from dataclasses import asdict

    kinds = [
        {
            "product": kind.product,
            "resource": kind.resource,
            "nodes": len({gpus.node for gpus in kind.nodes}),
            "allocatable": kind.allocatable,
            "free": kind.free,
            "memory_bytes": kind.memory_bytes,
            "zones": kind.zones,
            "taints": [taint.text() for taint in kind.taints],
        }
        for kind in inventory.kinds()
    ]
    return {"kinds": kinds, **asdict(inventory)}
