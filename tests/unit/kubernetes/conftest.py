"""A cluster that a release runs in, an API server for it, and the command line pointed there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.connection import Target, connected
from tests.authority import Authority
from tests.kube_api import Cluster, Endpoint, serving
from tests.kubernetes import schemas as schema_files
from tests.kubernetes.artifacts import UnreachableError
from tests.kubernetes.render import Manifest
from tests.kubernetes.schemas import Schemas
from tests.unit.kubernetes import objects as made

KIND_PLURALS = {
    "Node": "nodes",
    "Pod": "pods",
    "Event": "events",
    "ConfigMap": "configmaps",
    "Namespace": "namespaces",
    "ResourceQuota": "resourcequotas",
    "LimitRange": "limitranges",
    "StorageClass": "storageclasses.storage.k8s.io",
    "Deployment": "deployments.apps",
    "RayService": "rayservices.ray.io",
}
GROUPS = {
    ("apps", "v1"): ("deployments", "statefulsets"),
    ("batch", "v1"): ("jobs",),
    ("autoscaling", "v2"): ("horizontalpodautoscalers",),
    ("policy", "v1"): ("poddisruptionbudgets",),
    ("networking.k8s.io", "v1"): ("networkpolicies", "ingresses"),
    ("rbac.authorization.k8s.io", "v1"): ("roles", "rolebindings"),
    ("storage.k8s.io", "v1"): ("storageclasses",),
    ("ray.io", "v1"): ("rayservices", "rayclusters", "rayjobs"),
    ("gateway.networking.k8s.io", "v1"): ("httproutes", "grpcroutes", "gateways"),
    ("monitoring.coreos.com", "v1"): ("servicemonitors", "podmonitors", "prometheusrules"),
    ("metrics.k8s.io", "v1beta1"): ("nodes", "pods"),
}
CRD = {
    "components": {
        "schemas": {
            "io.ray.v1.RayService": {
                "x-kubernetes-group-version-kind": [{"group": "ray.io", "version": "v1", "kind": "RayService"}],
                "properties": {"spec": {"properties": {"serveConfigV2": {}, "suspend": {}}}},
            }
        }
    }
}


@pytest.fixture(scope="session")
def schemas() -> Schemas | None:
    """None where the package with the schemas cannot be had: objects then go unvalidated."""
    try:
        return schema_files.load()
    except UnreachableError:
        return None


@pytest.fixture(scope="session")
def check(schemas: Schemas | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An object, valid for the versions of the chart."""

    def valid(body: dict[str, Any]) -> dict[str, Any]:
        if schemas is not None:
            assert schemas.all_errors([Manifest(body=body, source="a test's object")]) == []
        return body

    return valid


@pytest.fixture
def cluster(check: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[Cluster]:
    """A healthy cluster with a healthy release; no request may have been malformed when the test ends."""
    found = Cluster(kinds=dict(GROUPS), openapi={"ray.io/v1": CRD})
    put = putter(found, check)
    put(made.node("l4-a", made.L4, gpus=4, taints=[made.GPU_TAINT]))
    put(made.node("l4-b", made.L4, gpus=4, taints=[made.GPU_TAINT]))
    put(made.node("cpu-a"))
    put(made.pod("prod-a1b2c-head", component="ray-head", node_name="cpu-a", address="10.1.0.2"))
    put(
        made.pod(
            "prod-a1b2c-l4-worker-x",
            component="ray-worker",
            node_name="l4-a",
            gpus=1,
            address="10.1.0.3",
            labels={"ray.io/group": "l4"},
        )
    )
    put(made.pod("prod-gateway-1", component="gateway", node_name="cpu-a", address="10.1.0.4"))
    put(made.pod("other", node_name="l4-b", gpus=2, namespace="elsewhere"))
    put(made.ray_service())
    put(made.config_map())
    put(made.operator())
    put(made.namespace())
    put(made.storage_class("standard", "pd.csi.storage.gke.io", is_default=True))
    put(made.storage_class("shared", "filestore.csi.storage.gke.io"))
    yield found
    assert found.faults == []


def putter(cluster: Cluster, check: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    def put(body: dict[str, Any]) -> None:
        key = KIND_PLURALS[body["kind"]]
        kept = [one for one in cluster.objects.get(key, []) if not _same(one, body)]
        cluster.objects[key] = [*kept, check(body)]

    return put


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one["metadata"].get(part) == other["metadata"].get(part) for part in ("name", "namespace"))


@pytest.fixture
def put(cluster: Cluster, check: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    """Adds an object to the cluster, or replaces the one of that name."""
    return putter(cluster, check)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "kubernetes-ca")


@pytest.fixture
def endpoint(cluster: Cluster, authority: Authority) -> Iterator[Endpoint]:
    with serving(cluster, authority) as found:
        yield found


@pytest.fixture
def kubeconfig(endpoint: Endpoint, tmp_path: Path) -> Path:
    return endpoint.kubeconfig(tmp_path / "kubeconfig")


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[ClusterApi]:
    with connected(Target(kubeconfig=kubeconfig), {}) as found:
        yield found


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command did."""

    exit_status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def words(self) -> str:
        """Everything it said, in one line: tables fold."""
        return re.sub(r"\s+", " ", self.out + self.err)


@pytest.fixture
def k8s(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs `longreach k8s …` against the cluster."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    def run(*arguments: str) -> Ran:
        result = CliRunner().invoke(app, ["k8s", *arguments], env={"KUBECONFIG": str(kubeconfig)})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(exit_status=result.exit_code, out=result.stdout, err=result.stderr)

    return run
