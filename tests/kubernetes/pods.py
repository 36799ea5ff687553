"""Every Pod that rendered objects make, with what the operator and the controllers add to it.

What must not live here: what is right or wrong with a Pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.ray_service import Body, RayService
from tests.kubernetes.render import Manifest, Rendered

WITH_TEMPLATE = ("Deployment", "StatefulSet", "DaemonSet", "Job")
CONFIG_FOLDER = "/etc/longreach/config"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One kind of Pod."""

    owner: Manifest
    role: str
    """Its component, or `ray-head`, or `ray-worker` and the group's name."""
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Body
    group: Body | None = None
    """A worker group's own part of the RayService."""

    def __str__(self) -> str:
        return f"{self.owner.kind}/{self.owner.name} {self.role}"

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def containers(self) -> list[Body]:
        return [*(self.spec.get("initContainers") or []), *self.spec["containers"]]

    @property
    def main(self) -> Body:
        """The first container, which does what the Pod is for."""
        first: Body = self.spec["containers"][0]
        return first

    def port(self, name_or_number: str | int, container: Body | None = None) -> int | None:
        """The number of a declared port."""
        for one in [container] if container else self.spec["containers"]:
            for port in one.get("ports") or []:
                if name_or_number in {port.get("name"), port["containerPort"]}:
                    return int(port["containerPort"])
        return None

    def volume(self, name: str) -> Body:
        (found,) = (one for one in self.spec.get("volumes") or [] if one["name"] == name)
        return found


def pods(rendered: Rendered) -> list[PodView]:
    """All of them, canaries and hooks included."""
    return [pod for manifest in rendered for pod in pods_of(manifest)]


def pods_of(manifest: Manifest) -> Iterator[PodView]:
    if manifest.kind in WITH_TEMPLATE:
        yield _of_template(manifest, manifest.spec["template"])
    elif manifest.kind == "CronJob":
        yield _of_template(manifest, manifest.spec["jobTemplate"]["spec"]["template"])
    elif manifest.kind == "Pod":
        yield _of_template(manifest, manifest.body)
    elif manifest.kind == "RayService":
        service = RayService.of(manifest)
        yield _of_ray(manifest, service.head["template"], "ray-head", None)
        for group in service.workers:
            yield _of_ray(manifest, group["template"], f"ray-worker {group['groupName']}", group)


def _of_template(manifest: Manifest, template: Body) -> PodView:
    metadata = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    return PodView(
        owner=manifest,
        role=labels.get("app.kubernetes.io/component", ""),
        labels=labels,
        annotations=metadata.get("annotations") or {},
        spec=template["spec"],
    )


def _of_ray(manifest: Manifest, template: Body, role: str, group: Body | None) -> PodView:
    """With the labels that labelPod of KubeRay's controllers/ray/common/pod.go adds; a template's own win."""
    metadata: Body = template.get("metadata") or {}
    node_type = "worker" if group else "head"
    cluster = f"{manifest.name}-abcde"
    added: dict[str, str] = {
        "app.kubernetes.io/created-by": "kuberay-operator",
        "app.kubernetes.io/name": "kuberay",
        "ray.io/cluster": cluster,
        "ray.io/group": str(group["groupName"]) if group else "headgroup",
        "ray.io/identifier": f"{cluster}-{node_type}",
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": node_type,
    }
    return PodView(
        owner=manifest,
        role=role,
        labels=added | (metadata.get("labels") or {}),
        annotations=metadata.get("annotations") or {},
        spec=template["spec"],
        group=group,
    )


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector takes these labels; an empty one takes all."""
    chosen = selector or {}
    matched = all(labels.get(key) == value for key, value in (chosen.get("matchLabels") or {}).items())
    return matched and all(_expression(one, labels) for one in chosen.get("matchExpressions") or [])


def _expression(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise AssertionError(f"unknown operator {expression['operator']}")
