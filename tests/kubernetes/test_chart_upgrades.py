"""Which changes of values make the operator start a new Ray cluster, and which leave the running one alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.kubernetes.cases import EVERYTHING, MODEL, merged, pool, serving
from tests.kubernetes.ray_service import RayService, cluster_identity
from tests.kubernetes.render import Rendered, Renderer

SCALED = serving(pool("chat", replicas={"min": 1, "max": 4}))

NO_NEW_CLUSTER: dict[str, dict[str, Any]] = {
    "more replicas": serving(pool("chat", replicas={"min": 2, "max": 8})),
    "more gateways": {"gateway": {"autoscaling": {"minReplicas": 3, "maxReplicas": 9}}},
    "a gateway's resources": {"gateway": {"resources": {"requests": {"cpu": "3"}}}},
    "an Ingress": {"gateway": {"ingress": {"enabled": True, "hosts": ["a.example.com"]}}},
    "policies": {"networkPolicy": {"enabled": False}},
    "monitors": {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
    "a tenant": serving(pool("chat", replicas={"min": 1, "max": 4}), tenants=[{"name": "batch", "weight": 1}]),
    "another gateway image": {"image": {"gateway": {"tag": "next"}}},
    "the strategy's pace": {"upgrade": {"deletionDelaySeconds": 600}},
    "another name of the model": serving(
        pool("chat", replicas={"min": 1, "max": 4}), models=[{"id": MODEL, "aliases": ["a"]}]
    ),
    "tolerations": {"workerGroups": {"gpu": {"tolerations": [{"key": "a", "operator": "Exists"}]}}},
}
NEW_CLUSTER: dict[str, dict[str, Any]] = {
    "another engine image": {"image": {"engine": {"tag": "next"}}},
    "another context": serving(pool("chat", replicas={"min": 1, "max": 4}, context_tokens=8192)),
    "an engine setting": serving(pool("chat", replicas={"min": 1, "max": 4}, engine={"max_running": 4})),
    "another revision of the model": serving(
        pool("chat", replicas={"min": 1, "max": 4}), models=[{"id": MODEL, "source": "/models/other"}]
    ),
    "longer streams": serving(pool("chat", replicas={"min": 1, "max": 4}), gateway={"limits": {"request_s": 7200}}),
    "larger workers": {"workerGroups": {"gpu": {"resources": {"requests": {"memory": "48Gi"}}}}},
}


def service(rendered: Rendered) -> RayService:
    return RayService.of(rendered.one("RayService", name="longreach"))


@pytest.mark.parametrize("change", NO_NEW_CLUSTER)
def test_the_running_cluster_is_left_alone(render: Renderer, change: str) -> None:
    before, after = service(render(SCALED)), service(render(SCALED, NO_NEW_CLUSTER[change]))
    assert cluster_identity(after) == cluster_identity(before)
    assert arguments(after) == arguments(before), "Serve would replace every replica in place"


@pytest.mark.parametrize("change", NEW_CLUSTER)
def test_a_new_cluster_comes_beside_the_old(render: Renderer, change: str) -> None:
    before, after = service(render(SCALED)), service(render(SCALED, NEW_CLUSTER[change]))
    assert cluster_identity(after) != cluster_identity(before)


def arguments(ray_service: RayService) -> dict[str, Any]:
    """By application, what Serve hashes into its version."""
    return {one["name"]: one["args"] for one in yaml.safe_load(ray_service.spec["serveConfigV2"])["applications"]}


def test_a_canary_leaves_the_stable_cluster_alone(render: Renderer) -> None:
    canary: dict[str, Any] = {"canary": {"enabled": True, "engineTag": "next", "pools": {"chat": {"replicas": 1}}}}
    before, after = service(render(SCALED)), service(render(SCALED, canary))
    assert cluster_identity(after) == cluster_identity(before)
    assert arguments(after) == arguments(before)
    heavier = merged(canary, {"canary": {"weight": 50}})
    other, same = (render(SCALED, values).one("RayService", name="longreach-canary") for values in (canary, heavier))
    assert cluster_identity(RayService.of(other)) == cluster_identity(RayService.of(same))
    assert arguments(RayService.of(other)) == arguments(RayService.of(same))


def test_the_same_values_render_the_same_but_for_secrets(render: Renderer) -> None:
    """Otherwise every `helm upgrade` would be a change; a second renderer has nothing kept."""
    again = Renderer(helms=render.helms, scratch=render.scratch)
    first, second = (
        {(one.kind, one.name): one.body for one in each if one.kind != "Secret"}
        for each in (render(EVERYTHING), again(EVERYTHING))
    )
    assert first == second
