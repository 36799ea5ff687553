"""What `longreach k8s` found, as tables.

What must not live here: looking (cluster/kubernetes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cluster.kubernetes.doctor.finding import Finding, Severity
from cluster.kubernetes.inventory import GpuKind, Inventory
from cluster.kubernetes.release.join import ReleaseView

GIB = 2**30
MINUTE_S = 60.0
STYLES = {Severity.OK: "green", Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red"}
GOOD = frozenset({"Running", "Succeeded", "RUNNING", "HEALTHY", "ready", "serving"})


def findings_view(findings: Sequence[Finding], *, everything: bool) -> RenderableType:
    """Findings, worst first; what is fine only where it was asked for."""
    order = [Severity.ERROR, Severity.WARNING, Severity.NOTE, *([Severity.OK] if everything else [])]
    parts: list[RenderableType] = []
    for severity in order:
        for finding in findings:
            if finding.severity is severity:
                text = Text()
                text.append(f"{severity:<8}", style=STYLES[severity])
                text.append(f"{finding.check}: {finding.seen}")
                if finding.remedy:
                    text.append(f"\n        remedy: {finding.remedy}", style="dim")
                parts.append(text)
    counts = Counter(finding.severity for finding in findings)
    parts.append(Text(", ".join(f"{counts[severity]} {severity}" for severity in Severity)))
    return Group(*parts)


def inventory_view(inventory: Inventory) -> RenderableType:
    """Kinds, then nodes."""
    parts: list[RenderableType] = []
    kinds = inventory.kinds()
    if kinds:
        parts.append(_kinds(kinds))
        parts.append(_nodes(kinds))
    else:
        parts.append(Text("no node offers nvidia.com/gpu", style="yellow"))
    cpu = inventory.cpu
    parts.append(
        Text(
            f"{cpu.nodes} nodes without GPUs: {cpu.cpu_free_milli / 1000:.0f} CPUs and "
            f"{cpu.memory_free_bytes / GIB:.0f} GiB free"
        )
    )
    if inventory.waiting_gpus:
        parts.append(Text(f"pods wait for {inventory.waiting_gpus} GPUs", style="yellow"))
    if inventory.other_accelerators:
        parts.append(Text(f"not used by Longreach: {', '.join(inventory.other_accelerators)}", style="yellow"))
    parts += [Text(f"note: {note}", style="yellow") for note in inventory.notes]
    return Group(*parts)


def release_view(view: ReleaseView) -> RenderableType:
    """A release."""
    head = Text(f"release {view.release} in namespace {view.namespace}: ")
    head.append("does not serve" if view.problems else "serves", style="red" if view.problems else "green")
    parts: list[RenderableType] = [head]
    parts += [Text(f"- {problem}", style="red") for problem in view.problems]
    parts += [part for part in (_services(view), _pools(view), _replicas(view), _pods(view)) if part is not None]
    if view.leases != "ok":
        parts.append(Text(f"leases not read: {view.leases}", style="yellow"))
    parts += [Text(f"not seen: {text}", style="yellow") for text in view.missing]
    for event in view.events:
        count = f" ({event.count} times)" if event.count > 1 else ""
        parts.append(
            Text(f"{event.age_s / MINUTE_S:.0f} min ago {event.object}: {event.reason}: {event.message}{count}")
        )
    return Group(*parts)


def _kinds(kinds: Sequence[GpuKind]) -> Table:
    table = _table("kind", ">free", ">GPUs", ">nodes", ">memory", "zones", "taints")
    for kind in kinds:
        table.add_row(
            escape(kind.label),
            str(kind.free),
            str(kind.allocatable),
            str(len({gpus.node for gpus in kind.nodes})),
            "?" if kind.memory_bytes is None else f"{kind.memory_bytes / GIB:.1f} GiB",
            ", ".join(kind.zones) or "-",
            ", ".join(taint.text() for taint in kind.taints) or "-",
        )
    return table


def _nodes(kinds: Sequence[GpuKind]) -> Table:
    table = _table("node", "kind", ">free", ">GPUs", ">CPU free", ">memory free", "")
    for kind in kinds:
        for gpus in kind.nodes:
            table.add_row(
                gpus.node,
                escape(kind.label),
                str(gpus.free),
                str(gpus.allocatable),
                f"{gpus.cpu_free_milli / 1000:.1f}",
                f"{gpus.memory_free_bytes / GIB:.0f} GiB",
                "" if gpus.takes_pods else "[yellow]takes no pods[/]",
            )
    return table


def _services(view: ReleaseView) -> Table | None:
    table = _table("rayservice", "cluster", "role", "state", ">workers", ">traffic", "conditions")
    for service in view.services:
        conditions = ", ".join(service.conditions) + ("" if service.is_current else " (spec not seen yet)")
        if not service.clusters:
            table.add_row(service.name, "-", "-", "-", "-", "-", conditions)
        for cluster in service.clusters:
            table.add_row(
                service.name,
                cluster.name,
                cluster.role,
                cluster.state,
                f"{cluster.ready_workers}/{cluster.desired_workers}",
                "-" if cluster.traffic_percent is None else f"{cluster.traffic_percent}%",
                conditions,
            )
    return table if view.services else None


def _pools(view: ReleaseView) -> Table | None:
    table = _table("pool", "model", ">context", ">ready", ">wanted", "application", "")
    for pool in view.pools:
        wanted = str(pool.least) if pool.least == pool.most else f"{pool.least}-{pool.most}"
        table.add_row(
            pool.name,
            pool.model,
            f"{pool.context_tokens:,}",
            "?" if pool.ready is None else str(pool.ready),
            "static" if pool.is_static else wanted,
            _coloured(pool.application or "-"),
            escape(pool.message),
        )
    return table if view.pools else None


def _replicas(view: ReleaseView) -> Table | None:
    table = _table("replica", "pool", "phase", "lease", "pod", ">running", ">waiting", ">KV use", "detail")
    for replica in view.replicas:
        table.add_row(
            replica.replica_id,
            replica.pool,
            _coloured(replica.phase or "?"),
            _coloured(replica.state or "-"),
            replica.pod or (f"none at {replica.url}" if replica.url else "-"),
            str(replica.running),
            str(replica.waiting),
            f"{replica.kv_use_ratio:.0%}",
            escape(replica.detail),
        )
    return table if view.replicas else None


def _pods(view: ReleaseView) -> Table | None:
    table = _table("pod", "component", "phase", "ready", ">restarts", "node", "reason")
    for pod in view.pods:
        table.add_row(
            pod.name,
            f"{pod.component} {pod.group}".strip() if pod.component == "ray-worker" else pod.component,
            _coloured(pod.phase),
            "yes" if pod.is_ready else "no",
            str(pod.restarts),
            pod.node or "-",
            escape(pod.reason),
        )
    return table if view.pods else None


def _coloured(word: str) -> str:
    return f"[{'green' if word in GOOD else 'yellow'}]{escape(word)}[/]"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return table
