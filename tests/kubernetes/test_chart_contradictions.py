"""Values that contradict each other, or that KubeRay would refuse, end in a message with the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.render import Renderer, RenderError
from tests.kubernetes.small_values import POOL, changed, with_config

CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "misspelled key": (changed(gatewy={}), "gatewy"),
    "misspelled key of a pool": (with_config(pools=[{**POOL, "contxt": 1}]), "contxt"),
    "no model": (with_config(models=[]), "at least one model"),
    "no pool": (with_config(pools=[]), "at least one pool"),
    "unknown worker group": (with_config(pools=[{**POOL, "worker_group": "gpus"}]), "workerGroups has: cpu"),
    "two groups and none named": (changed(workerGroups={"a": {}, "b": {}}), "workerGroups has: a, b"),
    "too few cards": (
        {**with_config(pools=[{**POOL, "tensor_parallel": 4}]), "workerGroups": {"g": {"gpu": {"count": 2}}}},
        "needs 4 GPUs in one worker, and worker group g has 2",
    ),
    "cpus over hosts": (changed(workerGroups={"g": {"hosts": 2}}), "only GPU workers can span hosts"),
    "hosts half used": (
        {
            **with_config(pools=[{**POOL, "tensor_parallel": 8}]),
            "workerGroups": {"g": {"hosts": 2, "gpu": {"count": 8}}},
        },
        "tensor_parallel must be all its GPUs: 16",
    ),
    "what the chart sets": (with_config(gateway={"host": "1.2.3.4"}), "config.gateway.host: the chart sets it"),
    "a store's address": (with_config(redis={"state_url": "redis://x"}), "config.redis.state_url: the chart sets it"),
    "a drain that cuts": (with_config(gateway={"limits": {"drain_s": 5}}), "an upgrade would cut streams"),
    "an engine's drain that cuts": (
        with_config(pools=[{**POOL, "engine": {"drain_s": 5}}]),
        "an upgrade would cut streams",
    ),
    "no state store": (changed(redis={"state": {"enabled": False}}), "replicas and gateways meet there"),
    "tier without a cache": (
        with_config(pools=[{**POOL, "engine": {"redis_tier": {"enabled": True}}}]),
        "enable redis.cache",
    ),
    "one server for two stores": (
        changed(redis={"state": {"external": {"url": "redis://r:1"}}, "gcs": {"external": {"url": "redis://r:1"}}}),
        "each need a server of their own",
    ),
    "password in an address": (changed(redis={"state": {"external": {"url": "redis://u:p@r"}}}), "external"),
    "user without password": (
        changed(redis={"state": {"external": {"url": "redis://r", "user": "u"}}}),
        "user without existingSecret",
    ),
    "fault tolerance without a store": (
        changed(redis={"gcs": {"enabled": False}}),
        "gcsFaultTolerance needs redis.gcs",
    ),
    "another of KubeRay's variables": (
        changed(ray={"extraEnv": [{"name": "RAY_enable_autoscaler_v2", "value": "1"}]}),
        "KubeRay refuses RAY_enable_autoscaler_v2",
    ),
    "Ray's store without a port": (
        changed(redis={"gcs": {"external": {"url": "redis://gcs.example"}}}),
        "Ray wants the port",
    ),
    "scaling without the autoscaler": (
        {**with_config(pools=[{**POOL, "replicas": {"min": 1, "max": 2}}]), "ray": {"autoscaler": {"enabled": False}}},
        "nobody adds workers",
    ),
    "ranks of two sizes in one group": (
        {
            **with_config(pools=[POOL, {**POOL, "name": "long", "tensor_parallel": 2}]),
            "workerGroups": {"g": {"gpu": {"count": 2}}},
        },
        "give each a group of its own",
    ),
    "several hosts and a volume each": (
        {
            **with_config(pools=[{**POOL, "tensor_parallel": 4}]),
            "workerGroups": {"g": {"hosts": 2, "gpu": {"count": 2}}},
            "modelCache": {"type": "emptyDir"},
        },
        "modelCache.type must be pvc",
    ),
    "a volume for one node and two clusters": (
        changed(modelCache={"accessMode": "ReadWriteOnce"}),
        "an upgrade has two clusters",
    ),
    "steps over the surge": (
        changed(
            upgrade={
                "strategy": "NewClusterWithIncrementalUpgrade",
                "incremental": {"gatewayClassName": "x", "stepSizePercent": 50, "maxSurgePercent": 20},
            }
        ),
        "stepSizePercent is over maxSurgePercent",
    ),
    "a canary's image that another wins over": (
        {
            **changed(canary={"enabled": True, "engineTag": "x", "pools": {"short": {}}}),
            "workerGroups": {"cpu": {"image": "mine:1"}},
        },
        "would win over it",
    ),
    "KubeRay's variable": (
        changed(ray={"extraEnv": [{"name": "RAY_REDIS_ADDRESS", "value": "x"}]}),
        "KubeRay refuses RAY_REDIS_ADDRESS",
    ),
    "more at least than at most": (
        changed(gateway={"autoscaling": {"minReplicas": 9}}),
        "minReplicas is over maxReplicas",
    ),
    "a budget that lets all go": (
        changed(gateway={"podDisruptionBudget": {"maxUnavailable": 2}}),
        "lets all of the 2 gateways go at once",
    ),
    "an ingress without a host": (changed(gateway={"ingress": {"enabled": True}}), "gateway.ingress.hosts"),
    "gRPC's ingress without gRPC": (
        {
            **with_config(gateway={"grpc": {"enabled": False}}),
            "gateway": {"ingress": {"grpc": {"enabled": True, "hosts": ["a"]}}},
        },
        "config.gateway.grpc.enabled is false",
    ),
    "routes without a parent": (changed(gateway={"gatewayApi": {"enabled": True}}), "parentRefs"),
    "TLS from nowhere": (changed(tls={"enabled": True}), "name a Secret in tls.existingSecret"),
    "TLS from two": (
        changed(
            tls={"enabled": True, "existingSecret": "a", "certManager": {"enabled": True, "issuerRef": {"name": "b"}}}
        ),
        "choose one",
    ),
    "a volume for one node": (
        {
            **with_config(pools=[{**POOL, "replicas": {"min": 2, "max": 2}}]),
            "modelCache": {"accessMode": "ReadWriteOnce"},
        },
        "serves one node",
    ),
    "an incremental upgrade without a gateway": (
        changed(upgrade={"strategy": "NewClusterWithIncrementalUpgrade"}),
        "gatewayClassName",
    ),
    "a canary of no pool": (changed(canary={"enabled": True, "models": {"tiny": {}}}), "canary.pools"),
    "a canary of an unknown pool": (
        changed(canary={"enabled": True, "models": {"tiny": {}}, "pools": {"x": {}}}),
        "canary.pools.x",
    ),
    "a canary like the rest": (changed(canary={"enabled": True, "pools": {"short": {}}}), "another source or revision"),
    "a name for nobody": (changed(fullnameOverride="1abc"), "begins with a letter"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(render: Renderer, case: str) -> None:
    values, words = CONTRADICTIONS[case]
    with pytest.raises(RenderError) as refused:
        render(values)
    assert words in str(refused.value)
