"""What each command must be allowed to do: one table for errors, `doctor`, `rbac` and docs/kubernetes-cli.md.

A right that is not `needed` only makes the answer fuller; the command then says what it could not see. What must not
live here: asking the API server (doctor/access.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.kubernetes import resources as kinds
from cluster.kubernetes.resources import Resource

READ = ("list",)
WRITE = ("get", "list", "watch", "create", "patch", "delete")
"""What helm does to an object it owns; it lists and watches where it waits, for hooks always."""
ROLE_NAME = "longreach-cli"


class Command(StrEnum):
    """The commands, and `helm install` of the chart."""

    INVENTORY = "inventory"
    STATUS = "status"
    DOCTOR = "doctor"
    INSTALL = "install"


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Verbs on one kind of object: in the release's namespace, or in all (`cluster_wide`)."""

    resource: Resource
    verbs: tuple[str, ...]
    why: str
    cluster_wide: bool = False
    needed: bool = True


_NODES = Right(resource=kinds.NODES, verbs=READ, why="GPUs, their labels and taints", cluster_wide=True)
_ALL_PODS = Right(resource=kinds.PODS, verbs=READ, why="what of the GPUs is taken", cluster_wide=True, needed=False)

RIGHTS: Mapping[Command, tuple[Right, ...]] = {
    Command.INVENTORY: (_NODES, _ALL_PODS),
    Command.STATUS: (
        Right(resource=kinds.RAY_SERVICES, verbs=READ, why="state, conditions, Serve applications"),
        Right(resource=kinds.PODS, verbs=READ, why="phases, restarts, reasons"),
        Right(resource=kinds.CONFIG_MAPS, verbs=READ, why="the release's config.yaml: pools", needed=False),
        Right(resource=kinds.EVENTS, verbs=READ, why="recent warnings", needed=False),
    ),
    Command.DOCTOR: (
        _NODES,
        _ALL_PODS,
        Right(resource=kinds.PODS, verbs=READ, why="images that cannot be pulled"),
        Right(resource=kinds.RAY_SERVICES, verbs=READ, why="what the release asks for"),
        Right(resource=kinds.CONFIG_MAPS, verbs=READ, why="the release's config.yaml: Redis", needed=False),
        Right(resource=kinds.RESOURCE_QUOTAS, verbs=READ, why="whether the release fits", needed=False),
        Right(resource=kinds.LIMIT_RANGES, verbs=READ, why="whether its pods are admitted", needed=False),
        Right(resource=kinds.NAMESPACES, verbs=("get",), why="Pod Security labels", needed=False),
        Right(
            resource=kinds.STORAGE_CLASSES,
            verbs=READ,
            why="the default class, and one for the model cache",
            cluster_wide=True,
            needed=False,
        ),
        Right(
            resource=kinds.DEPLOYMENTS,
            verbs=READ,
            why="the KubeRay operator's version",
            cluster_wide=True,
            needed=False,
        ),
    ),
    Command.INSTALL: (
        Right(resource=kinds.SECRETS, verbs=(*WRITE, "update"), why="helm keeps the release there; credentials"),
        *(
            Right(resource=resource, verbs=WRITE, why="the chart has them")
            for resource in (
                kinds.CONFIG_MAPS,
                kinds.SERVICES,
                kinds.SERVICE_ACCOUNTS,
                kinds.VOLUME_CLAIMS,
                kinds.DEPLOYMENTS,
                kinds.STATEFUL_SETS,
                kinds.JOBS,
                kinds.AUTOSCALERS,
                kinds.DISRUPTION_BUDGETS,
                kinds.NETWORK_POLICIES,
                kinds.ROLES,
                kinds.ROLE_BINDINGS,
                kinds.RAY_SERVICES,
            )
        ),
        Right(resource=kinds.PODS, verbs=WRITE, why="`helm test`", needed=False),
        *(
            Right(resource=resource, verbs=WRITE, why="where the values switch them on", needed=False)
            for resource in (
                kinds.INGRESSES,
                kinds.HTTP_ROUTES,
                kinds.GRPC_ROUTES,
                kinds.SERVICE_MONITORS,
                kinds.POD_MONITORS,
                kinds.SCRAPE_CONFIGS,
                kinds.PROMETHEUS_RULES,
                kinds.CERTIFICATES,
            )
        ),
    ),
}


def rule(resource: Resource, verbs: Iterable[str]) -> dict[str, list[str]]:
    """The rule of a Role or ClusterRole that grants this."""
    return {"apiGroups": [resource.group], "resources": [resource.plural], "verbs": list(verbs)}


def rule_text(resource: Resource, verbs: Iterable[str], *, namespace: str | None) -> str:
    """The same in one line, with the object it belongs into."""
    owner = f"a Role in namespace {namespace}" if namespace is not None else "a ClusterRole"
    group, listed = f'"{resource.group}"', ", ".join(verbs)
    return f"{owner}: {{apiGroups: [{group}], resources: [{resource.plural}], verbs: [{listed}]}}"


def role_documents(commands: Iterable[Command], *, namespace: str) -> list[dict[str, Any]]:
    """A Role and a ClusterRole that allow these commands everything they can use, and nothing else."""
    wanted = [right for command in commands for right in RIGHTS[command]]
    documents = []
    for cluster_wide, kind in ((False, "Role"), (True, "ClusterRole")):
        rules = _merged(right for right in wanted if right.cluster_wide is cluster_wide)
        if rules:
            metadata = {"name": ROLE_NAME} if cluster_wide else {"name": ROLE_NAME, "namespace": namespace}
            version = f"{kinds.ROLES.group}/{kinds.ROLES.version}"
            documents.append({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules})
    return documents


def rights_table() -> str:
    """The table of docs/kubernetes-cli.md, as Markdown."""
    lines = ["| Command | Where | Resource | Verbs | For | Without it |", "|---|---|---|---|---|---|"]
    for command, rights in RIGHTS.items():
        for right in rights:
            where = "cluster" if right.cluster_wide else "namespace"
            without = "fails" if right.needed else "goes on, and says so"
            verbs = ", ".join(right.verbs)
            lines.append(f"| {command} | {where} | `{right.resource.name}` | {verbs} | {right.why} | {without} |")
    return "\n".join(lines) + "\n"


def _merged(rights: Iterable[Right]) -> list[dict[str, list[str]]]:
    verbs: dict[Resource, list[str]] = {}
    for right in rights:
        known = verbs.setdefault(right.resource, [])
        known += [verb for verb in right.verbs if verb not in known]
    return [rule(resource, granted) for resource, granted in verbs.items()]
