"""`helm install` and `helm upgrade` of the chart without a cluster: client-side dry runs.

helm 3 asks an API server for its version and its kinds even then; a server that knows nothing else answers it. What
helm has installed it reads from a file (its memory driver). What must not live here: what is right with an object.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.render import Rendered
from tests.kubernetes.tools import Tool

KUBE_VERSION = "v1.37.0"
KINDS: dict[str, tuple[str, ...]] = {
    "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("Job",),
    "cert-manager.io/v1": ("Certificate",),
    "gateway.networking.k8s.io/v1": ("GRPCRoute", "HTTPRoute"),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule", "ServiceMonitor"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget",),
    "ray.io/v1": ("RayCluster", "RayService"),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
}
"""What the server says it has; helm refuses an object of any other kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where helm finds the server, and a folder for what it has installed."""

    kubeconfig: Path
    folder: Path

    def install(self, helm: Tool, chart: Path, *arguments: str, release: str = "longreach") -> str:
        """What `helm install` would do: its notes, hooks and objects."""
        return self._run(helm, "install", release, str(chart), *arguments, installed=None)

    def upgrade(
        self, helm: Tool, chart: Path, *arguments: str, release: str = "longreach", installed: Rendered | None = None
    ) -> str:
        """What `helm upgrade --install` would do, over what is installed already where that is given."""
        return self._run(helm, "upgrade", "--install", release, str(chart), *arguments, installed=installed)

    def _run(self, helm: Tool, *arguments: str, installed: Rendered | None) -> str:
        state = self.folder / ("installed.yaml" if installed else "empty.yaml")
        state.write_text(yaml.safe_dump([_release(installed)] if installed else []), encoding="utf-8")
        environment = {"HELM_DRIVER": "memory", "HELM_MEMORY_DRIVER_DATA": str(state)}
        options = ["--namespace", "serving", "--dry-run=client"]
        return helm.run(*arguments, *options, kubeconfig=self.kubeconfig, environment=environment)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A server on a free port for as long as the block lasts."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Discovery)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    kubeconfig = folder / "kubeconfig"
    place = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "discovery", "cluster": place}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "only", "context": {"cluster": "discovery", "user": "nobody"}}],
        "current-context": "only",
    }
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        yield Cluster(kubeconfig=kubeconfig, folder=folder)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _release(rendered: Rendered) -> dict[str, Any]:
    """As helm's memory driver reads what is installed."""
    return {
        "name": rendered.release,
        "namespace": rendered.namespace,
        "version": 1,
        "info": {"status": "deployed"},
        "chart": {"metadata": {"apiVersion": "v2", "name": "longreach", "version": "0.0.1"}},
        "manifest": rendered.text,
    }


class _Discovery(http.server.BaseHTTPRequestHandler):
    """The few addresses that say which version and which kinds an API server has."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = _answers().get(path)
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"}
        body = json.dumps(answer or missing).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing."""


def _answers() -> dict[str, Any]:
    groups = []
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": KUBE_VERSION},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    for api_version, kinds in KINDS.items():
        root = "/api" if api_version == "v1" else "/apis"
        resources = [_resource(kind) for kind in kinds]
        answers[f"{root}/{api_version}"] = {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version,
            "resources": resources,
        }
        group, slash, version = api_version.partition("/")
        if slash:
            one = {"groupVersion": api_version, "version": version}
            groups.append({"name": group, "versions": [one], "preferredVersion": one})
    answers["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return answers


def _resource(kind: str) -> dict[str, Any]:
    single = kind.lower()
    plural = f"{single[:-1]}ies" if single.endswith("y") else f"{single}es" if single.endswith("s") else f"{single}s"
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    return {"name": plural, "singularName": single, "kind": kind, "namespaced": True, "verbs": verbs}
