"""The namespace: its Pod Security level, and what cannot be known about NetworkPolicies.

What must not live here: quotas (room.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.doctor.finding import Finding, fine, note, warning

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"
LEVELS = ("privileged", "baseline", "restricted")


def security_findings(namespace: Mapping[str, Any]) -> list[Finding]:
    """The level that the namespace enforces; the chart's pods meet the strictest."""
    metadata = namespace["metadata"]
    name = metadata["name"]
    level = (metadata.get("labels") or {}).get(ENFORCE_LABEL)
    if level is None:
        return [
            note(
                "pod security",
                f"namespace {name} enforces no Pod Security level",
                f"the chart's pods meet the strictest: kubectl label namespace {name} {ENFORCE_LABEL}=restricted",
            )
        ]
    if level not in LEVELS:
        return [warning("pod security", f"{ENFORCE_LABEL}={level} is no level", f"use one of {', '.join(LEVELS)}")]
    return [fine("pod security", f"namespace {name} enforces {level}; the chart's pods meet restricted")]


def policy_findings() -> list[Finding]:
    """What has to be said every time."""
    return [
        note(
            "network policy",
            "whether NetworkPolicies are enforced cannot be known through the API: the cluster's network does it or "
            "ignores them",
            "ask which network plugin runs (Calico, Cilium, Antrea and the clouds' own with policies switched on do); "
            "where none does, Ray, Redis and replicas are open to every pod, and only the replica credential protects "
            "replicas",
        )
    ]
