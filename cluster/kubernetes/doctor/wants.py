"""What a release asks of its namespace: pods, and what each requests; from RayServices, or from rendered manifests.

What must not live here: whether that fits (room.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.nodes import GPU
from cluster.kubernetes.usage import pod_requests

WORKLOADS = frozenset({"Deployment", "StatefulSet", "Job"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodWant:
    """Pods of one shape."""

    name: str
    least: int
    most: int
    spec: Mapping[str, Any]

    @property
    def requests(self) -> Counter[str]:
        """Of one pod: CPU in thousandths, the rest in whole units or bytes."""
        return pod_requests(self.spec)

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """Those that run together."""
        return tuple(self.spec.get("containers") or ())


def total(wants: Iterable[PodWant], *, most: bool) -> Counter[str]:
    """What all pods request together, `pods` included, at their least or their most."""
    found: Counter[str] = Counter()
    for want in wants:
        count = want.most if most else want.least
        found["pods"] += count
        found.update({name: value * count for name, value in want.requests.items()})
    return found


def wants_gpus(wants: Iterable[PodWant]) -> bool:
    """Whether any pod asks for a GPU."""
    return any(want.requests[GPU] or any("nvidia.com/mig-" in name for name in want.requests) for want in wants)


def wants_of_service(service: Mapping[str, Any]) -> list[PodWant]:
    """The head and the workers of a RayService, as its spec has them."""
    config = (service.get("spec") or {}).get("rayClusterConfig") or {}
    name = service["metadata"]["name"]
    wants = []
    if config.get("headGroupSpec"):
        spec = (config["headGroupSpec"].get("template") or {}).get("spec") or {}
        wants.append(PodWant(name=f"{name} head", least=1, most=1, spec=spec))
    for group in config.get("workerGroupSpecs") or ():
        hosts = int(group.get("numOfHosts") or 1)
        least = int(group.get("minReplicas") or group.get("replicas") or 0)
        most = max(int(group.get("maxReplicas") or 0), int(group.get("replicas") or 0))
        spec = (group.get("template") or {}).get("spec") or {}
        name_of = f"{name} workers {group.get('groupName', '')}"
        wants.append(PodWant(name=name_of, least=least * hosts, most=most * hosts, spec=spec))
    return wants


def wants_of_manifests(documents: Iterable[Any]) -> list[PodWant]:
    """Every pod of what `helm template` wrote, autoscalers and test hooks taken into account."""
    objects = [document for document in documents if isinstance(document, Mapping) and document.get("kind")]
    most = {
        (target.get("kind"), target.get("name")): int(found["spec"].get("maxReplicas", 1))
        for found in objects
        if found["kind"] == "HorizontalPodAutoscaler"
        for target in (found["spec"].get("scaleTargetRef") or {},)
    }
    wants = []
    for found in objects:
        kind, metadata, spec = found["kind"], found["metadata"], found.get("spec") or {}
        if kind == "RayService":
            wants += wants_of_service(found)
        elif kind in WORKLOADS:
            count = int(spec.get("replicas", spec.get("parallelism", 1)))
            pod = (spec.get("template") or {}).get("spec") or {}
            name = f"{kind} {metadata['name']}"
            high = max(count, most.get((kind, metadata["name"]), count))
            wants.append(PodWant(name=name, least=count, most=high, spec=pod))
    return wants
