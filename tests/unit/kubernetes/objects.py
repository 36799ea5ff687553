"""Objects as an API server has them: nodes with NVIDIA's labels, pods, a RayService with its status.

Each is validated against Kubernetes' own schema, or KubeRay's CRD, when a server is made of them (conftest.py). What
must not live here: tests.
"""

from __future__ import annotations

from typing import Any

GIB = 2**30
NAMESPACE = "longreach"
RELEASE = "prod"
L4 = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.memory": "23034",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
}
H100 = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.replicas": "1",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
WHEN = "2026-11-28T07:00:00Z"
CONFIG = """\
cluster: {name: prod}
models: [{id: tiny}]
pools:
  - {name: short, model: tiny, context_tokens: 4096, replicas: {min: 1, max: 4}}
  - {name: long, model: tiny, context_tokens: 32768}
redis: {state_url: "redis://prod-redis-state.longreach.svc:6379/0"}
"""


def node(
    name: str,
    labels: dict[str, str] | None = None,
    *,
    gpus: int = 0,
    resource: str = "nvidia.com/gpu",
    cpu: str = "48",
    memory: str = "192Gi",
    taints: list[dict[str, str]] | None = None,
    is_ready: bool = True,
    is_cordoned: bool = False,
) -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": memory, "pods": "110", **({resource: str(gpus)} if gpus else {})}
    condition = {
        "type": "Ready",
        "status": "True" if is_ready else "False",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": WHEN,
        "lastTransitionTime": WHEN,
    }
    spec: dict[str, Any] = {"taints": taints} if taints else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "eu-1a", **(labels or {})}},
        "spec": {**spec, **({"unschedulable": True} if is_cordoned else {})},
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": [condition]},
    }


def pod(
    name: str,
    *,
    component: str | None = None,
    node_name: str | None = None,
    gpus: int = 0,
    namespace: str = NAMESPACE,
    address: str | None = None,
    waiting: dict[str, str] | None = None,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    requests: dict[str, str] | None = None,
) -> dict[str, Any]:
    is_ready = waiting is None and phase == "Running"
    own = {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/component": component} if component else {}
    asked = {"cpu": "1", "memory": "1Gi", **(requests or {}), **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
        "containerStatuses": [
            {
                "name": "main",
                "image": "longreach:0.1.0",
                "imageID": "",
                "ready": is_ready,
                "restartCount": 0 if is_ready else 3,
                "state": {"waiting": waiting} if waiting else {"running": {"startedAt": WHEN}},
            }
        ],
    }
    if address is not None:
        status |= {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.0.0.1"}
    container = {"name": "main", "image": "longreach:0.1.0", "resources": {"requests": asked}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {**own, **(labels or {})}},
        "spec": {"containers": [container], **({"nodeName": node_name} if node_name else {})},
        "status": status,
    }


def ray_service(*, is_ready: bool = True) -> dict[str, Any]:
    template = {"spec": {"containers": [container("ray-worker", cpu="4", memory="16Gi", gpus=1)]}}
    worker = {
        "groupName": "l4",
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": 4,
        "rayStartParams": {},
        "template": template,
    }
    head = {
        "rayStartParams": {"num-cpus": "0"},
        "template": {"spec": {"containers": [container("ray-head", cpu="2", memory="6Gi")]}},
    }
    ready = {
        "type": "Ready",
        "status": "True" if is_ready else "False",
        "reason": "NonZeroServeEndpoints" if is_ready else "InitializingTimeout",
        "message": "Number of serve endpoints is greater than 0" if is_ready else "Timed out",
        "lastTransitionTime": WHEN,
    }
    applications = {
        f"pool-{name}": {
            "status": "RUNNING",
            "message": "",
            "serveDeploymentStatuses": {"replica": {"status": "HEALTHY", "message": ""}},
        }
        for name in ("short", "long")
    }
    active = {
        "rayClusterName": "prod-a1b2c",
        "applicationStatuses": applications,
        "rayClusterStatus": {"state": "ready", "readyWorkerReplicas": 1, "desiredWorkerReplicas": 2},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {
            "name": "prod",
            "namespace": NAMESPACE,
            "generation": 3,
            "labels": {"app.kubernetes.io/instance": RELEASE},
        },
        "spec": {"rayClusterConfig": {"headGroupSpec": head, "workerGroupSpecs": [worker]}},
        "status": {
            "observedGeneration": 3,
            "conditions": [ready],
            "activeServiceStatus": active,
            "numServeEndpoints": 1,
        },
    }


def container(name: str, *, cpu: str, memory: str, gpus: int = 0) -> dict[str, Any]:
    devices = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    requests = {"cpu": cpu, "memory": memory, **devices}
    return {"name": name, "image": "longreach:0.1.0", "resources": {"requests": requests, "limits": {**devices}}}


def config_map(text: str = CONFIG) -> dict[str, Any]:
    metadata = {"name": "prod-config", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/instance": RELEASE}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": text}}


def warning_event(name: str, *, about: str, reason: str, message: str, when: str = WHEN) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "involvedObject": {"kind": "Pod", "name": about, "namespace": NAMESPACE},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": when,
        "count": 4,
    }


def operator(image: str = "quay.io/kuberay/operator:v1.7.0", *, ready: int = 1) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": "kuberay-operator"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kuberay-operator", "namespace": "kuberay", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "kuberay-operator", "image": image}]},
            },
        },
        "status": {"readyReplicas": ready, "replicas": 1},
    }


def quota(hard: dict[str, str], used: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": NAMESPACE},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": used or {}},
    }


def limit_range(**limit: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "bounds", "namespace": NAMESPACE},
        "spec": {"limits": [{"type": "Container", **limit}]},
    }


def namespace(level: str | None = "restricted") -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def storage_class(name: str, provisioner: str, *, is_default: bool = False) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if is_default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
    }
