"""What a pod takes of its node, by the scheduler's own rule.

The rule is that of the Kubernetes documentation (init containers, sidecar containers, pod overhead, pod-level
resources). What must not live here: nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.kubernetes.quantity import milli, whole

ENDED = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod holds nothing any more."""
MILLI_CPU = "cpu"


def pod_requests(spec: Mapping[str, Any]) -> Counter[str]:
    """What a pod's spec takes, by resource: CPU in thousandths, the rest in whole units or bytes.

    The largest of: all containers and sidecars together; each init container with the sidecars that began before it.
    Pod-level requests, where given, stand for the sum of CPU and memory.
    """
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        needs = _requests(container)
        if container.get("restartPolicy") == "Always":
            running += needs
        peak |= running if container.get("restartPolicy") == "Always" else running + needs
    for container in spec.get("containers") or ():
        running += _requests(container)
    # `|` keeps the larger of two amounts: the scheduler's rule, and never less than the containers say.
    total = running | peak | _requests(spec)
    return total + _amounts(spec.get("overhead") or {})


def used_by_node(pods: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """What pods take of each node; those that wait for one are under the empty name."""
    used: dict[str, Counter[str]] = {}
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in ENDED:
            continue
        spec = pod.get("spec") or {}
        used.setdefault(spec.get("nodeName") or "", Counter()).update(pod_requests(spec))
    return used


def _requests(owner: Mapping[str, Any]) -> Counter[str]:
    wanted = owner.get("resources") or {}
    # A limit without a request is a request; the API server writes both, other sources do not.
    return _amounts({**(wanted.get("limits") or {}), **(wanted.get("requests") or {})})


def _amounts(quantities: Mapping[str, Any]) -> Counter[str]:
    return Counter({name: milli(value) if name == MILLI_CPU else whole(value) for name, value in quantities.items()})
