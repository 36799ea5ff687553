"""What the KubeRay operator does with a RayService: commands and variables of its pods, names, the submission.

After KubeRay 1.7's controllers/ray/common/pod.go and utils/dashboardclient. What must not live here: pods as processes
(two_nodes_pod.py), what a RayService may say (tests/kubernetes/operator_rules.py).
"""

from __future__ import annotations

import re

import httpx
import yaml

from tests.kubernetes.pods import PodView
from tests.kubernetes.ray_service import RayService, start_parameters
from tests.kubernetes.render import Rendered
from tests.two_nodes_pod import secret

GCS_PORT = 6379
DASHBOARD_PORT = 8265
APPLICATIONS = "/api/serve/applications/"
SUBMIT_LIMIT_S = 60
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
NOT_SWITCHES = frozenset({"log-color", "include-dashboard", "include-log-monitor"})


def cluster_name(view: PodView) -> str:
    """Of the RayCluster that it makes for the RayService."""
    return view.labels["ray.io/cluster"]


def head_names(view: PodView, namespace: str) -> str:
    """Names of the head's Services: of the RayCluster and of the RayService."""
    services = (f"{cluster_name(view)}-head-svc", f"{view.owner.name}-head-svc")
    return " ".join(
        f"{one}.{namespace}.svc.cluster.local {one}.{namespace}.svc {one}.{namespace} {one}" for one in services
    )


def ray_command(view: PodView, namespace: str) -> list[str]:
    """The container's command: bash that runs `ray start`."""
    group = view.group if view.group is not None else RayService.of(view.owner).head
    options = dict(start_parameters(group))
    if view.group is not None:
        options.setdefault("address", f"{_head_service(view, namespace)}:{GCS_PORT}")
    elif "redisPassword" in (RayService.of(view.owner).gcs_fault_tolerance or {}):
        options["redis-password"] = "$REDIS_PASSWORD"
    options.setdefault("metrics-export-port", "8080")
    options.setdefault("dashboard-agent-listen-port", "52365")
    options["block"] = "true"
    memory = (view.main["resources"].get("limits") or {}).get("memory")
    if memory is not None:
        options.setdefault("memory", str(_bytes(memory)))
    words = [_option(key, value) for key, value in sorted(options.items())]
    start = " ".join(word for word in ("ray start", "" if view.group else "--head", *words) if word)
    return ["/bin/bash", "-c", "--", f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start}"]


def ray_variables(view: PodView, rendered: Rendered) -> dict[str, str]:
    """What it adds to the container's environment."""
    head = _head_service(view, rendered.namespace)
    service = RayService.of(view.owner)
    found = {
        "RAY_CLUSTER_NAME": cluster_name(view),
        "RAY_CLUSTER_NAMESPACE": rendered.namespace,
        "RAY_NODE_TYPE_NAME": view.labels["ray.io/group"],
        "RAY_PORT": str(GCS_PORT),
        "RAY_timeout_ms_task_wait_for_death_info": "0",
        "RAY_gcs_server_request_timeout_seconds": "5",
        "RAY_SERVE_KV_TIMEOUT_S": "5",
        "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
        "RAY_ADDRESS": f"{'127.0.0.1' if view.group is None else head}:{GCS_PORT}",
    }
    if view.group is not None:
        found |= {"FQ_RAY_IP": head, "RAY_IP": head.split(".")[0]}
    recovery = service.gcs_fault_tolerance
    if recovery is not None and view.group is not None:
        found["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"
    elif recovery is not None:
        found["RAY_REDIS_ADDRESS"] = recovery["redisAddress"]
        found["RAY_external_storage_namespace"] = f"{cluster_name(view)}-uid"
        if "redisPassword" in recovery:
            reference = recovery["redisPassword"]["valueFrom"]["secretKeyRef"]
            found["REDIS_PASSWORD"] = secret(rendered, reference["name"])[reference["key"]]
    return found


async def submit(dashboard: str, serve_config: str) -> str | None:
    """Hand `serveConfigV2` to Ray's dashboard, as JSON, once; what is wrong, where it was not taken.

    The operator tries again with every reconciliation.
    """
    async with httpx.AsyncClient(timeout=SUBMIT_LIMIT_S) as http:
        answer = await http.put(f"{dashboard}{APPLICATIONS}", json=yaml.safe_load(serve_config))
    return None if answer.is_success else f"{answer.status_code} {answer.text}"


async def replicas(dashboard: str) -> dict[str, dict[str, str]]:
    """State of each replica by its id, by application; out of what the operator reads, too."""
    async with httpx.AsyncClient(timeout=SUBMIT_LIMIT_S) as http:
        answer = await http.get(f"{dashboard}{APPLICATIONS}", params={"api_type": "declarative"})
    applications = answer.raise_for_status().json()["applications"]
    return {
        name: {one["replica_id"]: one["state"] for one in application["deployments"]["replica"]["replicas"]}
        for name, application in applications.items()
    }


def _head_service(view: PodView, namespace: str) -> str:
    return f"{cluster_name(view)}-head-svc.{namespace}.svc.cluster.local"


def _option(key: str, value: str) -> str:
    if value.lower() in {"true", "false"} and key not in NOT_SWITCHES:
        return f"--{key}" if value.lower() == "true" else ""
    return f"--{key}={value}"


def _bytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", quantity)
    assert found is not None, f"quantity {quantity!r} is not known here"
    return int(found[1]) * BINARY.get(found[2] or "", 1)
