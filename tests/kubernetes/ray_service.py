"""A rendered RayService, to be asked in the operator's words.

What must not live here: what is right or wrong with it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.render import Manifest

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayService:
    """The parts of one RayService; what is not set is empty."""

    body: Body

    @classmethod
    def of(cls, manifest: Manifest) -> RayService:
        assert manifest.kind == "RayService", f"{manifest} is no RayService"
        return cls(body=manifest.body)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def annotations(self) -> dict[str, str]:
        return self.body["metadata"].get("annotations") or {}

    @property
    def spec(self) -> Body:
        return self.body["spec"]

    @property
    def cluster(self) -> Body:
        return self.spec["rayClusterConfig"]

    @property
    def head(self) -> Body:
        return self.cluster["headGroupSpec"]

    @property
    def workers(self) -> list[Body]:
        return self.cluster.get("workerGroupSpecs") or []

    @property
    def groups(self) -> list[tuple[str, Body]]:
        """The head and every worker group, under the name that the operator gives them in its messages."""
        return [("Head", self.head), *((str(group.get("groupName")), group) for group in self.workers)]

    @property
    def autoscaling(self) -> bool:
        return self.cluster.get("enableInTreeAutoscaling") is True

    @property
    def autoscaler(self) -> Body:
        return self.cluster.get("autoscalerOptions") or {}

    @property
    def autoscaler_v2(self) -> bool:
        return self.autoscaler.get("version") == "v2"

    @property
    def autoscaler_v2_by_environment(self) -> bool:
        return environment(ray_container(self.head)).get("RAY_enable_autoscaler_v2", {}).get("value") in {"1", "true"}

    @property
    def gcs_fault_tolerance(self) -> Body | None:
        found: Body | None = self.cluster.get("gcsFaultToleranceOptions")
        return found

    @property
    def upgrade_type(self) -> str | None:
        return (self.spec.get("upgradeStrategy") or {}).get("type")

    @property
    def upgrade_options(self) -> Body | None:
        found: Body | None = (self.spec.get("upgradeStrategy") or {}).get("clusterUpgradeOptions")
        return found


def cluster_identity(service: RayService) -> str:
    """What the operator compares to decide whether a change needs a new cluster.

    As GenerateHashWithoutReplicasAndWorkersToDelete of KubeRay 1.7.0's controllers/ray/utils/util.go has it.
    """
    cluster = copy.deepcopy(service.cluster)
    cluster.pop("upgradeStrategy", None)
    for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])):
        for key in ("replicas", "minReplicas", "maxReplicas"):
            group.pop(key, None)
        for key in ("tolerations", "schedulingGates"):
            group["template"]["spec"].pop(key, None)
    return json.dumps(cluster, sort_keys=True)


def pod(group: Body) -> Body:
    """The Pod's spec in a group's template."""
    return (group.get("template") or {}).get("spec") or {}


def containers(group: Body) -> list[Body]:
    return pod(group).get("containers") or []


def ray_container(group: Body) -> Body:
    """The operator takes the first one for Ray's."""
    return containers(group)[0] if containers(group) else {}


def start_parameters(group: Body) -> dict[str, str]:
    return group.get("rayStartParams") or {}


def environment(container: Body) -> dict[str, Body]:
    """A container's variables by name."""
    return {one["name"]: one for one in container.get("env") or []}
