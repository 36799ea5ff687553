"""A RayService's status, as KubeRay 1.7 writes it.

What must not live here: pods, leases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationView:
    """A Serve application: one pool's."""

    name: str
    status: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RayClusterView:
    """The active or the pending cluster of a RayService."""

    role: str
    """`active` or `pending`."""
    name: str
    state: str
    ready_workers: int
    desired_workers: int
    traffic_percent: int | None
    """During an incremental upgrade."""
    applications: tuple[ApplicationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One RayService."""

    name: str
    is_ready: bool
    why: str
    """The reason and message of its Ready condition."""
    conditions: tuple[str, ...]
    """Those that are true."""
    is_current: bool
    """Whether the operator has seen the latest spec."""
    clusters: tuple[RayClusterView, ...]
    """The active one first."""


def service_view(service: Mapping[str, Any]) -> ServiceView:
    """A RayService, for people."""
    status = service.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = next((found for found in conditions if found.get("type") == "Ready"), None)
    generation = service["metadata"].get("generation")
    clusters = tuple(
        view
        for role in ("active", "pending")
        if (view := _cluster(role, status.get(f"{role}ServiceStatus") or {})) is not None
    )
    if ready is None:
        why = "the operator has written no Ready condition: does one run, and watch this namespace?"
    else:
        why = ": ".join(filter(None, (ready.get("reason"), ready.get("message"))))
    return ServiceView(
        name=str(service["metadata"]["name"]),
        is_ready=ready is not None and ready.get("status") == "True",
        why=why,
        conditions=tuple(str(found["type"]) for found in conditions if found.get("status") == "True"),
        is_current=generation is None or status.get("observedGeneration", generation) >= generation,
        clusters=clusters,
    )


def _cluster(role: str, status: Mapping[str, Any]) -> RayClusterView | None:
    if not status.get("rayClusterName"):
        return None
    ray = status.get("rayClusterStatus") or {}
    applications = status.get("applicationStatuses") or {}
    return RayClusterView(
        role=role,
        name=str(status["rayClusterName"]),
        state=str(ray.get("state") or "starting"),
        ready_workers=int(ray.get("readyWorkerReplicas") or 0),
        desired_workers=int(ray.get("desiredWorkerReplicas") or 0),
        traffic_percent=status.get("trafficRoutedPercent"),
        applications=tuple(
            ApplicationView(
                name=name, status=str(found.get("status", "")), message=" ".join(str(found.get("message", "")).split())
            )
            for name, found in sorted(applications.items())
        ),
    )
