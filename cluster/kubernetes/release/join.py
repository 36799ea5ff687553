"""One picture out of a release's objects and its leases: services, pools, pods, what is wrong.

A lease belongs to the pod whose address is in its URL. What must not live here: reading (read.py, leases.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from cluster.core.lease import Lease, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.kubernetes.release.leases import ReplicaRecords
from cluster.kubernetes.release.pods import PodView, pod_view
from cluster.kubernetes.release.read import ReleaseObjects
from cluster.kubernetes.release.services import ServiceView, service_view

EVENTS_SHOWN = 12
"""The latest; `kubectl events` has them all."""
AGE_MAX_S = 3600.0
"""Older warnings, and older reports of replicas without a lease, are about something that is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """One replica: by its lease where it has one, else by what it reported lately."""

    replica_id: str
    pool: str
    phase: str
    """Where it is in its life, as it reported: `loading`, `serving`, `failed`, …"""
    detail: str
    """Of the phase; its last error where there is one."""
    state: str
    """Of its lease: `ready`, `draining`, `drained` where an operator did it, or empty without one."""
    url: str
    pod: str
    """Empty where no pod of the release has the lease's address."""
    running: int
    waiting: int
    kv_use_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """One pool of the configuration."""

    name: str
    model: str
    context_tokens: int
    is_static: bool
    least: int
    most: int
    """Replicas that the configuration asks for."""
    ready: int | None
    """Replicas that take work, by their leases; None where leases cannot be read."""
    application: str
    """What Serve says of it; empty where it says nothing."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One warning."""

    object: str
    reason: str
    message: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseView:
    """Everything `longreach k8s status` shows."""

    release: str
    namespace: str
    services: tuple[ServiceView, ...]
    pools: tuple[PoolView, ...]
    replicas: tuple[ReplicaView, ...]
    pods: tuple[PodView, ...]
    events: tuple[EventView, ...]
    leases: str
    """`ok`, or why they cannot be read."""
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    """What keeps the release from serving; none means that it serves."""


def release_view(objects: ReleaseObjects, records: ReplicaRecords, *, now: datetime) -> ReleaseView:
    """The picture.

    Args:
        objects: of the release.
        records: leases and reports of its replicas.
        now: to tell the age of events and reports.
    """
    services = tuple(service_view(service) for service in objects.services)
    pods = tuple(sorted((pod_view(pod) for pod in objects.pods), key=lambda pod: (pod.component, pod.name)))
    pools = _pools(objects, services, records.leases)
    return ReleaseView(
        release=objects.release,
        namespace=objects.namespace,
        services=services,
        pools=pools,
        replicas=_replicas(records, objects.pods, now),
        pods=pods,
        events=_events(objects, services, now),
        leases=records.note,
        missing=objects.missing,
        problems=_problems(objects, services, pools, pods),
    )


def _replicas(records: ReplicaRecords, pods: Sequence[Mapping[str, Any]], now: datetime) -> tuple[ReplicaView, ...]:
    """Those with a lease, and those that reported lately without one: starting, or failed."""
    leases = {lease.replica_id: lease for lease in records.leases or ()}
    reports = {report.replica_id: report for report in records.reports}
    lately = [
        report.replica_id
        for report in records.reports
        if report.replica_id not in leases
        and report.phase is not ReplicaPhase.STOPPED
        and now.timestamp() - report.written_s <= AGE_MAX_S
    ]
    views = (_replica(name, leases.get(name), reports.get(name), pods) for name in (*leases, *lately))
    return tuple(sorted(views, key=lambda view: (view.pool, view.replica_id)))


def _replica(
    name: ReplicaId, lease: Lease | None, report: ReplicaReport | None, pods: Sequence[Mapping[str, Any]]
) -> ReplicaView:
    owner = lease or report
    assert owner is not None, "a name comes from one of them"
    state = "" if lease is None else "drained" if lease.is_drained else str(lease.state)
    return ReplicaView(
        replica_id=name,
        pool=owner.pool,
        phase="" if report is None else str(report.phase),
        detail="" if report is None else report.last_error or report.detail,
        state=state,
        url="" if lease is None else lease.url,
        pod="" if lease is None else _pod_at(urlsplit(lease.url).hostname or "", pods),
        running=0 if lease is None else lease.running,
        waiting=0 if lease is None else lease.waiting,
        kv_use_ratio=0.0 if lease is None else lease.kv_use_ratio,
    )


def _pod_at(address: str, pods: Sequence[Mapping[str, Any]]) -> str:
    """By the pod's own address; by its node's where the pod shares that."""
    for pod in pods:
        status = pod.get("status") or {}
        own = {status.get("podIP"), *(entry.get("ip") for entry in status.get("podIPs") or ())}
        if address in own and not (pod.get("spec") or {}).get("hostNetwork"):
            return str(pod["metadata"]["name"])
    on_host = [
        str(pod["metadata"]["name"])
        for pod in pods
        if (pod.get("spec") or {}).get("hostNetwork") and (pod.get("status") or {}).get("hostIP") == address
    ]
    return on_host[0] if len(on_host) == 1 else ""


def _pools(
    objects: ReleaseObjects, services: Sequence[ServiceView], leases: Sequence[Lease] | None
) -> tuple[PoolView, ...]:
    if objects.config is None:
        return ()
    views = []
    for pool in objects.config.pools:
        ready = None
        if leases is not None:
            ready = sum(lease.pool == pool.name and lease.state is ReplicaState.READY for lease in leases)
        found = [
            application
            for service in services
            for cluster in service.clusters
            for application in cluster.applications
            if application.name in {f"pool-{pool.name}", pool.name}
        ]
        # The first cluster is the active one.
        views.append(
            PoolView(
                name=pool.name,
                model=pool.model,
                context_tokens=pool.context_tokens,
                is_static=pool.is_static,
                least=0 if pool.is_static else pool.replicas.min,
                most=0 if pool.is_static else pool.replicas.max,
                ready=ready,
                application=found[0].status if found else "",
                message=found[0].message if found else "",
            )
        )
    return tuple(views)


def _events(objects: ReleaseObjects, services: Sequence[ServiceView], now: datetime) -> tuple[EventView, ...]:
    names = {objects.release, *(service.name for service in services)}
    names |= {cluster.name for service in services for cluster in service.clusters}
    names |= {str(pod["metadata"]["name"]) for pod in objects.pods}
    views = []
    for event in objects.events:
        about = event.get("involvedObject") or {}
        name = str(about.get("name", ""))
        # Objects that are gone already (a pod that was replaced) begin with the name of what owned them.
        if name not in names and not any(name.startswith(f"{known}-") for known in names):
            continue
        age_s = _age_s(event, now)
        if age_s <= AGE_MAX_S:
            views.append(
                EventView(
                    object=f"{about.get('kind', '')}/{name}",
                    reason=str(event.get("reason", "")),
                    message=" ".join(str(event.get("message", "")).split()),
                    count=int(event.get("count") or (event.get("series") or {}).get("count") or 1),
                    age_s=age_s,
                )
            )
    return tuple(sorted(views, key=lambda view: view.age_s)[:EVENTS_SHOWN])


def _age_s(event: Mapping[str, Any], now: datetime) -> float:
    """Since it last happened; the API has it in one of several fields, by who wrote the event."""
    series = event.get("series") or {}
    stamps = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    stamp = next((stamp for stamp in stamps if stamp), (event.get("metadata") or {}).get("creationTimestamp"))
    if not stamp:
        return 0.0
    return max(0.0, (now - datetime.fromisoformat(str(stamp))).total_seconds())


def _problems(
    objects: ReleaseObjects, services: Sequence[ServiceView], pools: Sequence[PoolView], pods: Sequence[PodView]
) -> tuple[str, ...]:
    problems = []
    if not services:
        problems.append(f"release {objects.release} has no RayService in namespace {objects.namespace}")
    problems += [f"RayService {view.name} is not ready: {view.why}" for view in services if not view.is_ready]
    problems += [
        f"pool {pool.name} has no replica that takes work" for pool in pools if not pool.is_static and pool.ready == 0
    ]
    gateways = [pod for pod in pods if pod.component == "gateway"]
    if services and not any(pod.is_ready for pod in gateways):
        problems.append("no gateway pod is ready" if gateways else "there is no gateway pod")
    return tuple(problems)
