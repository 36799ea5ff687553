"""The values that `longreach k8s values` writes, rendered by helm; and what `doctor` makes of the chart's manifests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cluster.kubernetes.connection import Target, connected
from cluster.kubernetes.doctor.wants import total, wants_of_manifests
from cluster.kubernetes.models import card_of
from cluster.kubernetes.nodes import inventory_of
from cluster.kubernetes.release.read import read_release
from cluster.kubernetes.rights import RIGHTS, Command
from cluster.kubernetes.values import Wish, plan_values, values_text
from tests.authority import Authority
from tests.kube_api import Cluster, serving
from tests.kubernetes.render import CHART, Renderer
from tests.kubernetes.schemas import Schemas
from tests.unit.kubernetes import objects as made

CLUSTERS = {
    "one L4": [made.node("a", made.L4, gpus=1)],
    "L4 in fours": [made.node(f"n{number}", made.L4, gpus=4, taints=[made.GPU_TAINT]) for number in range(3)],
    "H100": [made.node("a", made.H100, gpus=8, cpu="192", memory="1Ti")],
    "mixed": [
        made.node("a", made.L4, gpus=2),
        made.node("b", made.H100, gpus=8, cpu="192", memory="1Ti", taints=[{"key": "h100", "effect": "NoSchedule"}]),
        made.node("c", {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}, gpus=2),
    ],
}
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B-Instruct-2507", "qwen3-0.6b"])
@pytest.mark.parametrize("nodes", CLUSTERS.values(), ids=CLUSTERS)
def test_the_chart_takes_what_is_written(
    render: Renderer, schemas: Schemas, tmp_path: Path, nodes: list[dict[str, object]], model: str
) -> None:
    wish = Wish(model=model, card=card_of(model))
    plan = plan_values(inventory_of(nodes, {}), wish)
    file = tmp_path / "values.yaml"
    file.write_text(values_text(plan, wish), encoding="utf-8")
    rendered = render(file)
    assert schemas.all_errors(rendered) == []
    # Workers can grow to what was planned, and above: more room could not be given to a running Ray cluster.
    planned: Counter[str] = Counter()
    for pool, section in zip(plan.sizing.pools, plan.values["config"]["pools"], strict=True):
        planned[section["worker_group"]] += pool.replicas * pool.tensor_parallel
    service = rendered.one("RayService")
    found = {
        group["groupName"]: group["maxReplicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        for group in service.spec["rayClusterConfig"]["workerGroupSpecs"]
    }
    assert found.keys() == planned.keys()
    assert all(found[group] >= cards for group, cards in planned.items())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_install_rights_cover_every_object_of_the_chart(render: Renderer, example: Path) -> None:
    granted = {f"{right.resource.group}/{right.resource.plural}" for right in RIGHTS[Command.INSTALL]}
    missing = set()
    for one in render(example):
        group = one.api_version.rpartition("/")[0]
        plural = f"{one.kind.lower()[:-1]}ies" if one.kind.endswith("cy") else f"{one.kind.lower()}s"
        plural = "ingresses" if one.kind == "Ingress" else plural
        missing |= {f"{group}/{plural}"} - granted
    assert missing == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_doctor_counts_every_pod_of_the_manifests(render: Renderer, example: Path) -> None:
    rendered = render(example)
    wants = wants_of_manifests(yaml.safe_load_all(rendered.text))
    service = rendered.by_kind("RayService")[0]
    groups = service.spec["rayClusterConfig"]["workerGroupSpecs"]
    counted = total(wants, most=False)
    cards = sum(
        (group.get("minReplicas") or group.get("replicas") or 0) * group.get("numOfHosts", 1) * _cards(group)
        for group in groups
    )
    assert counted["nvidia.com/gpu"] == cards
    others = [one for one in rendered if one.kind in {"Deployment", "StatefulSet", "Job"}]
    assert {want.name for want in wants} >= {f"{one.kind} {one.name}" for one in others}
    assert total(wants, most=True)["pods"] >= counted["pods"] > len(others)


def _cards(group: dict[str, object]) -> int:
    text = json.dumps(group["template"])
    container = json.loads(text)["spec"]["containers"][0]
    return int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0))


def test_the_charts_viewer_may_run_status(render: Renderer) -> None:
    """What the chart grants people who only look is what the command needs, and no more."""
    rendered = render(EXAMPLES[0], {"rbac": {"viewer": True}})
    viewer = next(one for one in rendered.by_kind("Role") if one.name.endswith("-viewer"))
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in viewer.body["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for right in RIGHTS[Command.STATUS]:
        assert set(right.verbs) <= granted.get((right.resource.group, right.resource.plural), set())
    assert all(verbs <= {"get", "list", "watch"} for verbs in granted.values())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_status_finds_a_release_as_helm_installs_it(render: Renderer, tmp_path: Path, example: Path) -> None:
    """By labels alone, from the API: its RayServices, and the pools in its ConfigMap."""
    rendered = render(example, release="prod", namespace="serving")
    kept: dict[str, list[dict[str, object]]] = {"rayservices.ray.io": [], "configmaps": [], "pods": []}
    for one in rendered:
        one.body["metadata"].setdefault("namespace", "serving")
        kept.get({"RayService": "rayservices.ray.io", "ConfigMap": "configmaps"}.get(one.kind, ""), []).append(one.body)
    cluster = Cluster(kinds={("ray.io", "v1"): ("rayservices",)}, objects=kept)
    with serving(cluster, Authority(tmp_path, "kubernetes-ca")) as endpoint:
        kubeconfig = endpoint.kubeconfig(tmp_path / "kubeconfig", namespace="serving")
        with connected(Target(kubeconfig=kubeconfig), {}) as api:
            found = read_release(api, "prod")
            nobody = read_release(api, "other")
    assert cluster.faults == []
    assert (found.missing, len(found.services)) == ((), len(rendered.by_kind("RayService")))
    assert found.config is not None
    wanted = yaml.safe_load(example.read_text(encoding="utf-8"))["config"]["pools"]
    assert [pool.name for pool in found.config.pools] == [pool["name"] for pool in wanted]
    assert not nobody.services
