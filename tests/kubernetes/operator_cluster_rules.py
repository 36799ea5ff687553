"""The KubeRay operator's rules for the cluster inside a RayService; see operator_rules.py, which applies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.kubernetes.ray_service import RayService, containers, environment, pod, ray_container, start_parameters

NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
TOKENS_SINCE = (2, 52, 0)
PRIORITY_SINCE = (2, 56, 0)
FT_ENABLED = "ray.io/ft-enabled"
EXTERNAL_STORAGE = "ray.io/external-storage-namespace"
AUTOSCALER_COMMAND = "KUBERAY_GEN_AUTOSCALER_START_CMD"
SERVICE_TYPES = frozenset({"ClusterIP", "NodePort", "LoadBalancer", ""})
GATED = {
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
    "historyServerOptions": "RayClusterHistoryServer",
}
"""Fields that a feature gate closes by default."""


def every_group_has_a_container(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    for name, group in service.groups:
        if not containers(group):
            yield f"group {name} has no container"


def group_names_are_unique(service: RayService) -> Iterator[str]:
    """validateWorkerGroups of pkg/webhooks/v1."""
    names = [str(group.get("groupName")) for group in service.workers]
    for name in sorted({one for one in names if names.count(one) > 1}):
        yield f"two worker groups are named {name}"


def group_names_are_label_values(service: RayService) -> Iterator[str]:
    """labelPod of controllers/ray/common/pod.go writes the name into the label ray.io/group."""
    for group in service.workers:
        name = str(group.get("groupName"))
        if len(name) > 63 or re.fullmatch(NAME, name) is None:
            yield f"worker group {name!r} cannot be the value of a label"


def resources_are_said_once(service: RayService) -> Iterator[str]:
    """validateRayGroupResources."""
    for name, group in service.groups:
        if group.get("resources") and any(start_parameters(group).get(key) for key in START_RESOURCES):
            yield f"group {name} has resources in rayStartParams and in resources"


def labels_are_not_start_parameters(service: RayService) -> Iterator[str]:
    """validateRayGroupLabels."""
    for name, group in service.groups:
        if "labels" in start_parameters(group):
            yield f"group {name} has labels in rayStartParams"


def labels_are_legal(service: RayService) -> Iterator[str]:
    """validateRayGroupLabels, with Kubernetes' syntax of keys and values."""
    for name, group in service.groups:
        for key, value in (group.get("labels") or {}).items():
            prefix, slash, last = key.rpartition("/")
            prefix_ok = not slash or (LABEL_PREFIX.fullmatch(prefix) is not None and len(prefix) <= 253)
            if not prefix_ok or len(last) > 63 or re.fullmatch(NAME, last) is None:
                yield f"group {name}: label {key!r} is no legal key"
            if value and (len(value) > 63 or re.fullmatch(NAME, value) is None):
                yield f"group {name}: label {key} has no legal value: {value!r}"


def both_bounds_without_an_autoscaler(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec. Stricter than the operator, which sees the CRD's defaults: the chart shall say both."""
    for group in service.workers:
        if not service.autoscaling and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"group {group.get('groupName')} must set minReplicas and maxReplicas"


def bounds_are_in_order(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec; the CRD's defaults are 0 and 2,147,483,647."""
    for group in service.workers:
        least, most = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
        if least < 0 or most < 0:
            yield f"group {group.get('groupName')} has negative bounds {least} and {most}"
        elif least > most:
            yield f"group {group.get('groupName')} has minReplicas {least} above maxReplicas {most}"


def groups_have_hosts(service: RayService) -> Iterator[str]:
    """reconcilePods of controllers/ray/raycluster_controller.go multiplies replicas with it."""
    for group in service.workers:
        if group.get("numOfHosts", 1) < 1:
            yield f"group {group.get('groupName')} has numOfHosts {group['numOfHosts']}, so never a Pod"


def head_service_type_exists(service: RayService) -> Iterator[str]:
    """BuildServiceForHeadPod of controllers/ray/common/service.go writes it into a Service."""
    if service.head.get("serviceType", "ClusterIP") not in SERVICE_TYPES:
        yield f"serviceType {service.head['serviceType']} is unknown"


def idle_timeouts_are_not_negative(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec and validateWorkerGroupIdleTimeout."""
    named = [("autoscalerOptions", service.autoscaler)]
    named += [(f"group {group.get('groupName')}", group) for group in service.workers]
    for name, options in named:
        if (options.get("idleTimeoutSeconds") or 0) < 0:
            yield f"{name} has a negative idleTimeoutSeconds"


def group_idle_timeout_needs_autoscaler_v2(service: RayService) -> Iterator[str]:
    """validateWorkerGroupIdleTimeout."""
    for group in service.workers:
        if "idleTimeoutSeconds" in group and not (service.autoscaler_v2 or service.autoscaler_v2_by_environment):
            yield f"group {group.get('groupName')} has idleTimeoutSeconds, autoscalerOptions.version is not v2"


def group_priority_needs_autoscaler_v2(service: RayService) -> Iterator[str]:
    """validateWorkerGroupPriority."""
    for group in service.workers:
        if group.get("priority"):
            if _version(service) < PRIORITY_SINCE:
                yield f"group {group.get('groupName')} has a priority, which needs rayVersion 2.56.0"
            if not (service.autoscaler_v2 or service.autoscaler_v2_by_environment):
                yield f"group {group.get('groupName')} has a priority, autoscalerOptions.version is not v2"


def fault_tolerance_is_said_once(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    if service.annotations.get(FT_ENABLED) and service.gcs_fault_tolerance is not None:
        yield f"{FT_ENABLED} and gcsFaultToleranceOptions are both set"


def redis_address_needs_fault_tolerance(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    enabled = service.annotations.get(FT_ENABLED, "").lower() == "true" or service.gcs_fault_tolerance is not None
    if not enabled and "RAY_REDIS_ADDRESS" in environment(ray_container(service.head)):
        yield "RAY_REDIS_ADDRESS is set without gcsFaultToleranceOptions"


def redis_is_not_configured_beside_the_options(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    if service.gcs_fault_tolerance is None:
        return
    if start_parameters(service.head).get("redis-password"):
        yield "redis-password in rayStartParams beside gcsFaultToleranceOptions"
    for variable in ("REDIS_PASSWORD", "RAY_REDIS_ADDRESS"):
        if variable in environment(ray_container(service.head)):
            yield f"{variable} in the head's environment beside gcsFaultToleranceOptions"
    if service.annotations.get(EXTERNAL_STORAGE):
        yield f"{EXTERNAL_STORAGE} beside gcsFaultToleranceOptions"


def fault_tolerance_backend_is_redis(service: RayService) -> Iterator[str]:
    """validateGcsFaultToleranceBackend: the gate GCSFaultToleranceEmbeddedStorage is closed by default."""
    options = service.gcs_fault_tolerance or {}
    if options.get("backend", "redis") != "redis":
        yield f"gcsFaultToleranceOptions.backend is {options['backend']}"
    elif "storage" in options:
        yield "gcsFaultToleranceOptions.storage is for the rocksdb backend only"


def redis_user_is_an_option(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    if start_parameters(service.head).get("redis-username") or "REDIS_USERNAME" in environment(
        ray_container(service.head)
    ):
        yield "the Redis user is set in rayStartParams or the environment, not in gcsFaultToleranceOptions"


def autoscaled_groups_are_not_suspended(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    for group in service.workers:
        if service.autoscaling and group.get("suspend"):
            yield f"group {group.get('groupName')} is suspended with the autoscaler on"


def autoscaler_v2_is_an_option(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    if service.autoscaler_v2_by_environment and not service.autoscaling:
        yield "RAY_enable_autoscaler_v2 is set without enableInTreeAutoscaling"
    variable = "RAY_enable_autoscaler_v2" in environment(ray_container(service.head))
    if service.autoscaling and "version" in service.autoscaler and variable:
        yield "autoscalerOptions.version and RAY_enable_autoscaler_v2 are both set"


def autoscaler_v2_restarts_nothing(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    for name, group in service.groups:
        restart = pod(group).get("restartPolicy", "Never")
        if service.autoscaling and service.autoscaler_v2 and restart != "Never":
            yield f"group {name} has restartPolicy {restart} with autoscaler v2"


def autoscaler_command_is_the_operators(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    if AUTOSCALER_COMMAND in environment(service.autoscaler):
        yield f"autoscalerOptions.env has {AUTOSCALER_COMMAND}"


def gated_fields_are_not_set(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec; gates of pkg/features."""
    for key, gate in GATED.items():
        if key in service.cluster:
            yield f"{key} needs the feature gate {gate}"


def tokens_need_a_ray_version(service: RayService) -> Iterator[str]:
    """ValidateRayClusterSpec."""
    mode = (service.cluster.get("authOptions") or {}).get("mode")
    if mode == "token" and _version(service) < TOKENS_SINCE:
        yield "authOptions.mode token needs rayVersion 2.52.0"


CLUSTER_RULES: tuple[Callable[[RayService], Iterator[str]], ...] = (
    every_group_has_a_container,
    group_names_are_unique,
    group_names_are_label_values,
    resources_are_said_once,
    labels_are_not_start_parameters,
    labels_are_legal,
    both_bounds_without_an_autoscaler,
    bounds_are_in_order,
    groups_have_hosts,
    head_service_type_exists,
    idle_timeouts_are_not_negative,
    group_idle_timeout_needs_autoscaler_v2,
    group_priority_needs_autoscaler_v2,
    fault_tolerance_is_said_once,
    redis_address_needs_fault_tolerance,
    redis_is_not_configured_beside_the_options,
    fault_tolerance_backend_is_redis,
    redis_user_is_an_option,
    autoscaled_groups_are_not_suspended,
    autoscaler_v2_is_an_option,
    autoscaler_v2_restarts_nothing,
    autoscaler_command_is_the_operators,
    gated_fields_are_not_set,
    tokens_need_a_ray_version,
)


def _version(service: RayService) -> tuple[int, ...]:
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?.*", str(service.cluster.get("rayVersion", "")))
    return tuple(int(one or 0) for one in numbers.groups()) if numbers else (0, 0, 0)
