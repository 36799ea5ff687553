"""What the chart makes of `config`: the file gateways read, and the applications that Ray Serve builds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from cluster.config import AutoscalingSection, Config, LimitsSection, parse_config
from cluster.control.head import serve_environment
from cluster.control.kuberay import pool as build_pool
from cluster.control.pools import autoscaling_options
from cluster.core.drain import head_grace_s, head_limit_s, rank_grace_s, rank_limit_s, worker_grace_s
from cluster.engine.order import ReplicaOrder
from cluster.kubernetes.chart.generate import CHART, default_values, generated, values_schema
from cluster.kubernetes.chart.ray import RAY_VERSION
from tests.kubernetes.pods import pods
from tests.kubernetes.render import Rendered, Renderer
from tests.kubernetes.small_values import POOL, SMALL, changed, with_config

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
LOCAL_ONLY = {"RAY_enable_metrics_collection"}
"""Off on one machine, where nobody scrapes Ray."""


def file_of(rendered: Rendered) -> Config:
    (text,) = (
        each.body["data"]["config.yaml"] for each in rendered.by_kind("ConfigMap") if each.name.endswith("-config")
    )
    return parse_config(text, origin="config.yaml")


def serve_config(service: Any) -> ServeDeploySchema:
    return ServeDeploySchema.model_validate(yaml.safe_load(service.spec["serveConfigV2"]))


def deployments(service: Any) -> dict[str, Any]:
    """By application: Serve's deployment as its builder makes it, and what serveConfigV2 says over it."""
    return {
        application.name: (build_pool(application.args)._bound_deployment, application.deployments[0])
        for application in serve_config(service).applications
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("helm", ["3", "4"])
def test_gateways_understand_the_file(render: Renderer, example: Path, helm: Any) -> None:
    config = file_of(render(example, helm=helm))
    assert config.gateway.host == "0.0.0.0"
    assert config.gateway.auth.keys_file is not None
    assert config.cluster.replica_host == "node"
    assert config.gateway.limits.drain_s >= config.gateway.limits.request_s


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_serve_builds_every_pool_and_a_worker_holds_its_replicas(render: Renderer, example: Path) -> None:
    rendered = render(example)
    config = file_of(rendered)
    service = rendered.one("RayService")
    groups = {group["groupName"]: group for group in service.spec["rayClusterConfig"]["workerGroupSpecs"]}
    built = deployments(service)
    assert set(built) == {f"pool-{pool.name}" for pool in config.pools if not pool.is_static}
    for pool in config.pools:
        deployment, override = built[f"pool-{pool.name}"]
        (order,) = deployment.init_args
        assert isinstance(order, ReplicaOrder)
        assert order.pool == pool.model_copy(update={"replicas": order.pool.replicas, "traffic": order.pool.traffic})
        assert deployment.name == override.name
        start = groups[str(pool.worker_group)]["rayStartParams"]
        has = {
            "CPU": float(start["num-cpus"]),
            "GPU": float(start.get("num-gpus", 0)),
            **json.loads(start["resources"].strip("'")),
        }
        for bundle in deployment._replica_config.placement_group_bundles:
            assert all(has[name] >= amount for name, amount in bundle.items()), (pool.name, bundle, has)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_workers_are_as_many_as_the_replicas_need(render: Renderer, example: Path) -> None:
    rendered = render(example)
    config = file_of(rendered)
    for group in rendered.one("RayService").spec["rayClusterConfig"]["workerGroupSpecs"]:
        pools = [pool for pool in config.pools if pool.worker_group == group["groupName"]]
        cards = int(group["rayStartParams"].get("num-gpus", 0)) * group["numOfHosts"]
        # Ray's autoscaler has room above and below; without it the counts are all there is.
        assert group["minReplicas"] in {0, group["replicas"]}
        fixed = rendered.one("RayService").spec["rayClusterConfig"].get("enableInTreeAutoscaling") is None
        bounds = [("min", group["replicas"])] + ([("max", group["maxReplicas"])] if fixed else [])
        for bound, count in bounds:
            wanted = sum(pool.tensor_parallel * getattr(pool.replicas, bound) for pool in pools)
            assert cards == 0 or cards * count >= wanted, group["groupName"]
            # No worker is there for nothing: without one of them, a pool would not have its replicas.
            needed = sum(
                math.ceil(getattr(pool.replicas, bound) / (cards // pool.tensor_parallel if cards else 1))
                for pool in pools
            )
            assert count == needed
        most = sum(math.ceil(pool.replicas.max / (cards // pool.tensor_parallel if cards else 1)) for pool in pools)
        assert group["maxReplicas"] >= most
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"].get("nvidia.com/gpu", 0) * group["numOfHosts"] == cards


def test_without_the_autoscaler_other_counts_are_another_cluster(render: Renderer) -> None:
    """KubeRay takes worker counts from a RayService only when it makes a cluster."""

    def engines(count: int) -> str:
        pools = [{**POOL, "replicas": {"min": count, "max": count}}]
        values = {**with_config(pools=pools), "ray": {"autoscaler": {"enabled": False}}}
        cluster = render(values).one("RayService").spec["rayClusterConfig"]
        (group,) = cluster["workerGroupSpecs"]
        assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (count, count, count)
        return str(cluster["headGroupSpec"]["template"]["metadata"]["annotations"]["longreach.dev/engines"])

    assert engines(1) != engines(3)


def test_a_login_of_an_object_store_reaches_whatever_pulls_models_and_nothing_else(render: Renderer) -> None:
    key = {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "bucket", "key": "id"}}}
    rendered = render(changed(modelCache={"extraEnv": [key]}))
    with_login = {
        (pod.component, container["name"])
        for pod in pods(rendered)
        for container in [*(pod.spec.get("initContainers") or []), *pod.spec["containers"]]
        if key in (container.get("env") or [])
    }
    assert with_login == {("model-prefetch", "pull"), ("gateway", "tokenizers"), ("ray-worker", "ray-worker")}


def test_the_user_wins_where_a_variable_is_there_twice(render: Renderer) -> None:
    extra = [{"name": "HOME", "value": "/elsewhere"}, {"name": "OTHER", "value": "1"}]
    rendered = render(changed(ray={"extraEnv": extra}, gateway={"extraEnv": extra}))
    cluster = rendered.one("RayService").spec["rayClusterConfig"]
    (gateway,) = rendered.one("Deployment").spec["template"]["spec"]["containers"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for container in [gateway, *(template["spec"]["containers"][0] for template in templates)]:
        names = [each["name"] for each in container["env"]]
        assert len(names) == len(set(names))
        assert [each["value"] for each in container["env"] if each["name"] in {"HOME", "OTHER"}] == ["/elsewhere", "1"]


def test_a_product_joins_what_the_user_asks_of_nodes(render: Renderer) -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}}
    group = {"gpu": {"count": 1, "products": ["L4"]}, "affinity": {"nodeAffinity": required}}
    cluster = render(changed(workerGroups={"g": group})).one("RayService").spec["rayClusterConfig"]
    affinity = cluster["workerGroupSpecs"][0]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [each["key"] for each in term["matchExpressions"]] == ["zone", "nvidia.com/gpu.product"]


def test_rays_client_of_its_store_is_told_whom_to_trust(render: Renderer) -> None:
    external = {"url": "rediss://gcs.example:6380", "existingSecret": "gcs"}

    def head(**more: Any) -> dict[str, Any]:
        values = changed(redis={"gcs": {"enabled": False, "external": {**external, **more}}})
        pod: dict[str, Any] = (
            render(values).one("RayService").spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
        )
        return pod

    def env(pod: dict[str, Any]) -> dict[str, Any]:
        return {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}

    assert env(head())["RAY_REDIS_CA_PATH"] == "/etc/ssl/certs"
    pod = head(caKey="ca.crt")
    folder = next(each["mountPath"] for each in pod["containers"][0]["volumeMounts"] if each["name"] == "redis-gcs")
    assert env(pod)["RAY_REDIS_CA_CERT"] == f"{folder}/ca.crt"


def test_replica_counts_change_no_argument(render: Renderer) -> None:
    one, more = (
        render(with_config(pools=[{**POOL, "replicas": {"min": count, "max": count}}])).one("RayService")
        for count in (1, 3)
    )
    assert [each.args for each in serve_config(one).applications] == [
        each.args for each in serve_config(more).applications
    ]
    assert [each.deployments[0].num_replicas for each in serve_config(more).applications] == [3]

    def engines(service: Any) -> str:
        head = service.spec["rayClusterConfig"]["headGroupSpec"]["template"]["metadata"]
        return str(head["annotations"]["longreach.dev/engines"])

    other = render(with_config(pools=[{**POOL, "engine": {"max_running": 4}}])).one("RayService")
    assert engines(one) == engines(more) != engines(other)


def test_a_pool_that_scales_has_the_policy_of_local_mode(render: Renderer) -> None:
    """Serve takes nothing of the application's own options once the file gives some."""
    autoscaling = {"ttft_s": 1, "idle_s": 60}
    values = with_config(pools=[{**POOL, "replicas": {"min": 0, "max": 2}, "autoscaling": autoscaling}])
    rendered = render({**values, "modelCache": {"type": "emptyDir"}})
    service = rendered.one("RayService")
    ((deployment, override),) = deployments(service).values()
    config = file_of(rendered)
    wanted = autoscaling_options(config.pool("short"), ReplicaOrder(config=config, pool_name="short"))
    given = override.autoscaling_config
    # Defaults are not written out; the policy's own are those of the configuration (tests/unit/control).
    target = AutoscalingSection(**autoscaling).model_dump() | given["policy"]["policy_kwargs"]["target"]
    given["policy"]["policy_kwargs"]["target"] = target
    assert given == wanted
    assert AutoscalingConfig(**given).min_replicas == 0
    assert deployment.name == "replica"
    assert service.spec["rayClusterConfig"]["enableInTreeAutoscaling"] is True


def test_a_pool_from_zero_needs_no_worker_at_first(render: Renderer) -> None:
    values = with_config(pools=[{**POOL, "replicas": {"min": 0, "max": 2}}])
    service = render({**values, "modelCache": {"type": "emptyDir"}}).one("RayService")
    (group,) = service.spec["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert group["maxReplicas"] >= 2


def test_the_level_of_service_changes_no_argument(render: Renderer) -> None:
    """It is the policy's, in Serve's controller: replicas stay."""
    pool = {**POOL, "replicas": {"min": 1, "max": 2}}
    one, other = (
        render({**with_config(pools=[{**pool, **more}]), "modelCache": {"type": "emptyDir"}}).one("RayService")
        for more in ({}, {"autoscaling": {"ttft_s": 9}})
    )
    assert [each.args for each in serve_config(one).applications] == [
        each.args for each in serve_config(other).applications
    ]
    assert serve_config(one) != serve_config(other)


def test_the_canary_has_the_same_pool_another_model_and_its_share(render: Renderer) -> None:
    canary = {"enabled": True, "weight": 5, "models": {"tiny": {"revision": "v2"}}, "pools": {"short": {"replicas": 2}}}
    rendered = render(changed(canary=canary, modelCache={"type": "emptyDir"}))
    services = {service.name: service for service in rendered.by_kind("RayService")}
    main, other = services["longreach"], services["longreach-canary"]
    assert dict(file_of(rendered).pool("short").traffic or {}) == {"stable": 95, "canary": 5}
    (of_main,) = serve_config(main).applications
    (of_canary,) = serve_config(other).applications
    assert of_canary.args["config"]["models"] == [{**of_main.args["config"]["models"][0], "revision": "v2"}]
    assert (of_main.args["config"]["pools"][0]["revision"], of_canary.args["config"]["pools"][0]["revision"]) == (
        "stable",
        "canary",
    )
    assert of_canary.deployments[0].num_replicas == 2
    # Beginning a canary must not replace what serves now.
    (before,) = serve_config(render(changed(modelCache={"type": "emptyDir"})).one("RayService")).applications
    assert of_main.args == before.args


def test_every_ray_node_has_the_environment_of_local_mode(render: Renderer) -> None:
    rendered = render(SMALL)
    wanted = {name: value for name, value in serve_environment(file_of(rendered)).items() if name not in LOCAL_ONLY}
    cluster = rendered.one("RayService").spec["rayClusterConfig"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    assert len(templates) == 2
    for template in templates:
        (container,) = template["spec"]["containers"]
        given = {
            each["name"]: each.get("value")
            for each in container["env"]
            if each["name"] in wanted or each["name"].startswith("RAY_")
        }
        assert given == {**wanted, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}


def test_the_longest_stream_is_the_gateways_own_default(render: Renderer) -> None:
    config = file_of(render(SMALL))
    assert config.gateway.limits.drain_s == config.pools[0].engine.drain_s == LimitsSection().request_s
    shorter = file_of(render(with_config(gateway={"limits": {"request_s": 90.5}})))
    assert shorter.gateway.limits.drain_s == shorter.pools[0].engine.drain_s == 91


def test_pods_of_a_replica_on_several_hosts_stay_as_long_as_it(render: Renderer) -> None:
    pools = [{**POOL, "tensor_parallel": 4, "engine": {"drain_s": 3600}}]
    values = {**with_config(pools=pools), "workerGroups": {"g": {"hosts": 2, "gpu": {"count": 2}}}}
    cluster = render(values).one("RayService").spec["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    worker = group["template"]["spec"]
    hooks = [pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-3:] for pod in (head, worker)]
    assert hooks == [
        ["head", "--limit-s", str(head_limit_s(3600, spans_hosts=True))],
        ["rank", "--limit-s", str(rank_limit_s(3600))],
    ]
    assert head["terminationGracePeriodSeconds"] == head_grace_s(3600, spans_hosts=True)
    assert worker["terminationGracePeriodSeconds"] == rank_grace_s(3600)
    assert (group["numOfHosts"], group["replicas"]) == (2, 1)


def test_grace_periods_are_what_the_drain_adds_up_to(render: Renderer) -> None:
    """cluster/core/drain.py; Ray itself waits for nothing after the hook."""
    cluster = render(with_config(gateway={"limits": {"request_s": 100}})).one("RayService").spec["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (worker,) = (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    hooks = [pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-3:] for pod in (head, worker)]
    assert hooks == [["head", "--limit-s", str(head_limit_s(100))], ["worker", "--limit-s", "100"]]
    assert head["terminationGracePeriodSeconds"] == head_grace_s(100)
    assert worker["terminationGracePeriodSeconds"] == worker_grace_s(100)


def test_the_chart_names_the_ray_it_was_made_for() -> None:
    pins = (CHART.parents[2] / "locks" / "cpu.txt").read_text(encoding="utf-8").splitlines()
    assert f"ray=={RAY_VERSION}" in [pin.split(" ")[0] for pin in pins]


def test_generated_files_are_in_step() -> None:
    """`make chart` writes them."""
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: make chart"


def test_values_yaml_says_what_the_types_say() -> None:
    assert yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")) == default_values()


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    schema = values_schema()
    sections = {"": schema, **schema["$defs"]}
    assert len(sections) > 60
    assert [
        name
        for name, part in sections.items()
        if "properties" in part and part.get("additionalProperties") is not False
    ] == []
