"""A pod in one line: component, phase, restarts, and the reason it is not ready.

What must not live here: which pods belong to a release (read.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.release.read import COMPONENT_LABEL

MESSAGE_MAX = 200
"""Of a reason's message: a scheduler's names every node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod."""

    name: str
    component: str
    """`gateway`, `ray-head`, `ray-worker`, `redis-state`, …; `?` where no label says it."""
    group: str
    """Of a Ray worker."""
    phase: str
    is_ready: bool
    restarts: int
    node: str
    address: str
    reason: str
    """Why it is not ready; empty where it is, or where nothing says."""


def pod_view(pod: Mapping[str, Any]) -> PodView:
    """A pod, for people."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    is_ready = any(
        found.get("type") == "Ready" and found.get("status") == "True" for found in status.get("conditions") or ()
    )
    phase = "Terminating" if metadata.get("deletionTimestamp") else str(status.get("phase", "Unknown"))
    return PodView(
        name=str(metadata["name"]),
        component=str(labels.get(COMPONENT_LABEL, "?")),
        group=str(labels.get("ray.io/group", "")),
        phase=phase,
        is_ready=is_ready,
        restarts=sum(int(found.get("restartCount", 0)) for found in _containers(status)),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        address=str(status.get("podIP") or ""),
        reason="" if is_ready or phase == "Succeeded" else _reason(status)[:MESSAGE_MAX],
    )


def _reason(status: Mapping[str, Any]) -> str:
    """The first of: what a container waits for, why one ended, why the pod is not scheduled or was evicted."""
    for container in _containers(status):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        last = (container.get("lastState") or {}).get("terminated") or {}
        if waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            before = f" (before: {last['reason']}, exit code {last.get('exitCode')})" if last.get("reason") else ""
            return _said(container["name"], waiting) + before
        if ended and ended.get("exitCode"):
            return _said(container["name"], ended)
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("type") == "PodScheduled":
            return " ".join(f"{condition.get('reason', '')}: {condition.get('message', '')}".split())
    if status.get("reason"):
        return " ".join(f"{status['reason']}: {status.get('message', '')}".split())
    starting = [str(found["name"]) for found in _containers(status) if not found.get("ready")]
    return f"not ready yet: {', '.join(starting)}" if starting else ""


def _said(name: str, state: Mapping[str, Any]) -> str:
    message = " ".join(str(state.get("message", "")).split())
    return f"{name}: {state.get('reason', 'ended')}" + (f": {message}" if message else "")


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()
