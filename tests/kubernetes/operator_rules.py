"""What the KubeRay operator itself refuses in a RayService, beyond its CRD, as checks on what was rendered.

After KubeRay 1.7.0 with its default feature gates; each rule names the Go function it mirrors, of
ray-operator/controllers/ray/utils/validation.go unless it says otherwise. Those of the cluster in a RayService are in
operator_cluster_rules.py. What must not live here: what a CRD's schema says, what only this project wants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import yaml

from tests.kubernetes.operator_cluster_rules import CLUSTER_RULES
from tests.kubernetes.ray_service import RayService, ray_container

NAME_MAX = 47
"""Six characters are added for the cluster's name, ten for its longest Service, of 63."""
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
GO_DURATION = re.compile(r"\+?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+")
INITIALIZING_TIMEOUT = "ray.io/initializing-timeout"
UPGRADE_TYPES = frozenset({None, "None", "NewCluster", "NewClusterWithIncrementalUpgrade"})
INCREMENTAL = "NewClusterWithIncrementalUpgrade"

Rule = Callable[[RayService], Iterator[str]]


def name_is_short(service: RayService) -> Iterator[str]:
    """ValidateRayServiceMetadata."""
    if len(service.name) > NAME_MAX:
        yield f"the name has {len(service.name)} characters, {NAME_MAX} are allowed"


def name_is_a_dns_1035_label(service: RayService) -> Iterator[str]:
    """ValidateRayServiceMetadata."""
    if DNS_1035.fullmatch(service.name) is None:
        yield f"the name {service.name!r} is no DNS-1035 label"


def initializing_timeout_is_a_positive_duration(service: RayService) -> Iterator[str]:
    """validateInitializingTimeout."""
    text = service.annotations.get(INITIALIZING_TIMEOUT, "")
    positive = re.search("[1-9]", text) is not None
    if text and not (positive and (GO_DURATION.fullmatch(text) or text.isdigit())):
        yield f"{INITIALIZING_TIMEOUT} is {text!r}, not a positive duration like 30m nor a positive number of seconds"


def kubernetes_tokens_are_not_for_services(service: RayService) -> Iterator[str]:
    """ValidateRayServiceSpec."""
    if (service.cluster.get("authOptions") or {}).get("enableK8sTokenAuth"):
        yield "authOptions.enableK8sTokenAuth is not supported in a RayService"


def head_service_has_no_name(service: RayService) -> Iterator[str]:
    """ValidateRayServiceSpec."""
    if ((service.head.get("headService") or {}).get("metadata") or {}).get("name"):
        yield "headService.metadata.name must not be set"


def upgrade_type_is_known(service: RayService) -> Iterator[str]:
    """ValidateRayServiceSpec."""
    if service.upgrade_type not in UPGRADE_TYPES:
        yield f"upgradeStrategy.type {service.upgrade_type} is unknown"


def deletion_delay_is_not_negative(service: RayService) -> Iterator[str]:
    """ValidateRayServiceSpec."""
    if (service.spec.get("rayClusterDeletionDelaySeconds") or 0) < 0:
        yield "rayClusterDeletionDelaySeconds is negative"


def incremental_upgrade_has_the_autoscaler(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions."""
    if service.upgrade_type == INCREMENTAL and not service.autoscaling:
        yield f"{INCREMENTAL} needs enableInTreeAutoscaling"


def incremental_upgrade_has_options(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions."""
    if service.upgrade_type == INCREMENTAL and service.upgrade_options is None:
        yield f"{INCREMENTAL} needs clusterUpgradeOptions"


def surge_is_a_percentage(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions; the CRD's default is 100."""
    options = service.upgrade_options if service.upgrade_type == INCREMENTAL else None
    if options is not None and not 0 <= options.get("maxSurgePercent", 100) <= 100:
        yield "maxSurgePercent must be between 0 and 100"


def step_is_at_most_the_surge(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions."""
    options = service.upgrade_options if service.upgrade_type == INCREMENTAL else None
    if options is not None:
        step = options.get("stepSizePercent")
        if step is None or not 0 <= step <= min(100, options.get("maxSurgePercent", 100)):
            yield "stepSizePercent must be set, between 0 and maxSurgePercent"


def interval_is_positive(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions."""
    options = service.upgrade_options if service.upgrade_type == INCREMENTAL else None
    if options is not None and (options.get("intervalSeconds") or 0) <= 0:
        yield "intervalSeconds must be set and positive"


def gateway_class_is_named(service: RayService) -> Iterator[str]:
    """ValidateClusterUpgradeOptions."""
    options = service.upgrade_options if service.upgrade_type == INCREMENTAL else None
    if options is not None and not options.get("gatewayClassName"):
        yield "gatewayClassName must be set"


def cluster_has_no_upgrade_strategy(service: RayService) -> Iterator[str]:
    """ValidateRayClusterUpgradeOptions, of the cluster that the RayService makes."""
    if (service.cluster.get("upgradeStrategy") or {}).get("type"):
        yield "rayClusterConfig.upgradeStrategy must not be set in a RayService"


def a_port_serves(service: RayService) -> Iterator[str]:
    """BuildServeService of controllers/ray/common/service.go: without such a port there is no Service for Ray Serve."""
    ports = ray_container(service.head).get("ports") or []
    names = [str(port.get("name", "")) for port in ports]
    serving = any(name == "serve" or name.startswith("serve-") for name in names)
    if not serving and "serveService" not in service.spec:
        yield "no port of the head's container is named `serve`"


def serve_config_is_yaml(service: RayService) -> Iterator[str]:
    """reconcileServeConfig of controllers/ray/rayservice_controller.go unmarshals it into a map."""
    try:
        found = yaml.safe_load(service.spec.get("serveConfigV2") or "")
    except yaml.YAMLError as error:
        yield f"serveConfigV2 is not YAML: {error}"
        return
    if not isinstance(found, dict):
        yield f"serveConfigV2 is {type(found).__name__}, not a mapping"


SERVICE_RULES: tuple[Rule, ...] = (
    name_is_short,
    name_is_a_dns_1035_label,
    initializing_timeout_is_a_positive_duration,
    kubernetes_tokens_are_not_for_services,
    head_service_has_no_name,
    upgrade_type_is_known,
    deletion_delay_is_not_negative,
    incremental_upgrade_has_the_autoscaler,
    incremental_upgrade_has_options,
    surge_is_a_percentage,
    step_is_at_most_the_surge,
    interval_is_positive,
    gateway_class_is_named,
    cluster_has_no_upgrade_strategy,
    a_port_serves,
    serve_config_is_yaml,
)
RULES: tuple[Rule, ...] = (*SERVICE_RULES, *CLUSTER_RULES)


def violations(service: RayService) -> list[str]:
    """What the operator would refuse, one line for each finding, with the name of its rule."""
    return [f"RayService {service.name}: {rule.__name__}: {line}" for rule in RULES for line in rule(service)]
