"""Every rule of the operator, on a RayService that keeps it and on one that breaks it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.kubernetes import operator_cluster_rules as cluster
from tests.kubernetes import operator_rules as service
from tests.kubernetes.operator_rules import RULES, Rule, violations
from tests.kubernetes.ray_service import RayService

Changes = dict[str, Any]
"""Dotted paths below the RayService, numbers for positions in lists; None removes."""

SAMPLE: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayService",
    "metadata": {"name": "longreach", "annotations": {}},
    "spec": {
        "serveConfigV2": "applications: []",
        "rayClusterConfig": {
            "rayVersion": "2.60.0",
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": {
                    "spec": {
                        "containers": [{"name": "ray", "ports": [{"name": "serve", "containerPort": 8000}], "env": []}]
                    }
                },
            },
            "workerGroupSpecs": [
                {
                    "groupName": "large",
                    "minReplicas": 1,
                    "maxReplicas": 2,
                    "rayStartParams": {},
                    "template": {"spec": {"containers": [{"name": "ray", "env": []}]}},
                }
            ],
        },
    },
}
CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
GROUP = f"{CLUSTER}.workerGroupSpecs.0"
RAY = "template.spec.containers.0"
AUTOSCALED: Changes = {f"{CLUSTER}.enableInTreeAutoscaling": True}
V2: Changes = AUTOSCALED | {f"{CLUSTER}.autoscalerOptions": {"version": "v2"}}
TOLERANT: Changes = {f"{CLUSTER}.gcsFaultToleranceOptions": {"redisAddress": "redis:6379"}}
OPTIONS = {"maxSurgePercent": 50, "stepSizePercent": 10, "intervalSeconds": 30, "gatewayClassName": "istio"}
UPGRADED: Changes = AUTOSCALED | {
    "spec.upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": OPTIONS}
}
UPGRADE = "spec.upgradeStrategy.clusterUpgradeOptions"


@dataclass(frozen=True, slots=True)
class Case:
    """Changes that keep a rule, and some that break it."""

    rule: Rule
    broken: tuple[Changes, ...]
    kept: Changes = field(default_factory=dict)


def variables(*names: str, value: str = "x") -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name in names]


def name(text: str) -> Changes:
    return {"metadata.name": text}


def annotated(key: str, text: str) -> Changes:
    return {"metadata.annotations": {key: text}}


CASES = (
    Case(service.name_is_short, (name("a" * 48),), name("a" * 47)),
    Case(service.name_is_a_dns_1035_label, (name("1a"), name("a-"), name("a.b"), name("A")), name("a-1")),
    Case(
        service.initializing_timeout_is_a_positive_duration,
        tuple(annotated(service.INITIALIZING_TIMEOUT, text) for text in ("soon", "0", "0s", "-5m", "5 m")),
        annotated(service.INITIALIZING_TIMEOUT, "1h30m"),
    ),
    Case(
        service.kubernetes_tokens_are_not_for_services,
        ({f"{CLUSTER}.authOptions": {"mode": "token", "enableK8sTokenAuth": True}},),
        {f"{CLUSTER}.authOptions": {"mode": "token"}},
    ),
    Case(
        service.head_service_has_no_name,
        ({f"{HEAD}.headService": {"metadata": {"name": "head"}}},),
        {f"{HEAD}.headService": {"metadata": {"labels": {"a": "b"}}}},
    ),
    Case(
        service.upgrade_type_is_known,
        ({"spec.upgradeStrategy": {"type": "Recreate"}},),
        {"spec.upgradeStrategy": {"type": "NewCluster"}},
    ),
    Case(
        service.deletion_delay_is_not_negative,
        ({"spec.rayClusterDeletionDelaySeconds": -1},),
        {"spec.rayClusterDeletionDelaySeconds": 0},
    ),
    Case(
        service.incremental_upgrade_has_the_autoscaler,
        (UPGRADED | {f"{CLUSTER}.enableInTreeAutoscaling": False},),
        UPGRADED,
    ),
    Case(service.incremental_upgrade_has_options, (UPGRADED | {UPGRADE: None},), UPGRADED),
    Case(
        service.surge_is_a_percentage,
        (UPGRADED | {f"{UPGRADE}.maxSurgePercent": 101}, UPGRADED | {f"{UPGRADE}.maxSurgePercent": -1}),
        UPGRADED | {f"{UPGRADE}.maxSurgePercent": None},
    ),
    Case(
        service.step_is_at_most_the_surge,
        tuple(UPGRADED | {f"{UPGRADE}.stepSizePercent": step} for step in (None, -1, 51, 101)),
        UPGRADED | {f"{UPGRADE}.stepSizePercent": 50},
    ),
    Case(
        service.interval_is_positive,
        (UPGRADED | {f"{UPGRADE}.intervalSeconds": 0}, UPGRADED | {f"{UPGRADE}.intervalSeconds": None}),
        UPGRADED,
    ),
    Case(service.gateway_class_is_named, (UPGRADED | {f"{UPGRADE}.gatewayClassName": ""},), UPGRADED),
    Case(
        service.cluster_has_no_upgrade_strategy,
        ({f"{CLUSTER}.upgradeStrategy": {"type": "Recreate"}},),
        UPGRADED,
    ),
    Case(
        service.a_port_serves,
        ({f"{HEAD}.{RAY}.ports": None}, {f"{HEAD}.{RAY}.ports.0.name": "server"}),
        {f"{HEAD}.{RAY}.ports.0.name": "serve-grpc"},
    ),
    Case(
        service.serve_config_is_yaml,
        ({"spec.serveConfigV2": "a: [b"}, {"spec.serveConfigV2": "text"}, {"spec.serveConfigV2": None}),
    ),
    Case(
        cluster.every_group_has_a_container,
        ({f"{HEAD}.template.spec.containers": []}, {f"{GROUP}.template": None}),
    ),
    Case(
        cluster.group_names_are_unique,
        ({f"{CLUSTER}.workerGroupSpecs": [{"groupName": "a"}, {"groupName": "a"}]},),
        {f"{CLUSTER}.workerGroupSpecs": [{"groupName": "a"}, {"groupName": "b"}]},
    ),
    Case(
        cluster.group_names_are_label_values,
        ({f"{GROUP}.groupName": "a" * 64}, {f"{GROUP}.groupName": "a b"}, {f"{GROUP}.groupName": "-a"}),
        {f"{GROUP}.groupName": "a" * 63},
    ),
    Case(
        cluster.resources_are_said_once,
        (
            {f"{HEAD}.resources": {"cpu": "1"}},
            {f"{GROUP}.resources": {"GPU": "1"}, f"{GROUP}.rayStartParams.num-gpus": "1"},
        ),
        {f"{GROUP}.resources": {"GPU": "1"}},
    ),
    Case(cluster.labels_are_not_start_parameters, ({f"{GROUP}.rayStartParams.labels": "a=b"},)),
    Case(
        cluster.labels_are_legal,
        (
            {f"{GROUP}.labels": {"a b": "c"}},
            {f"{HEAD}.labels": {"a": "b c"}},
            {f"{GROUP}.labels": {"A_/a": "b"}},
            {f"{GROUP}.labels": {"a": "b" * 64}},
        ),
        {f"{GROUP}.labels": {"ray.io/gpu": "NVIDIA_H100", "b": ""}},
    ),
    Case(
        cluster.both_bounds_without_an_autoscaler,
        ({f"{GROUP}.minReplicas": None}, {f"{GROUP}.maxReplicas": None}),
        AUTOSCALED | {f"{GROUP}.minReplicas": None},
    ),
    Case(
        cluster.bounds_are_in_order,
        ({f"{GROUP}.minReplicas": -1}, {f"{GROUP}.minReplicas": 3}, {f"{GROUP}.maxReplicas": -1}),
        {f"{GROUP}.minReplicas": 2},
    ),
    Case(cluster.groups_have_hosts, ({f"{GROUP}.numOfHosts": 0},), {f"{GROUP}.numOfHosts": 2}),
    Case(
        cluster.head_service_type_exists, ({f"{HEAD}.serviceType": "clusterip"},), {f"{HEAD}.serviceType": "NodePort"}
    ),
    Case(
        cluster.idle_timeouts_are_not_negative,
        ({f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds": -1}, {f"{GROUP}.idleTimeoutSeconds": -1}),
        {f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds": 0},
    ),
    Case(
        cluster.group_idle_timeout_needs_autoscaler_v2,
        ({f"{GROUP}.idleTimeoutSeconds": 60},),
        V2 | {f"{GROUP}.idleTimeoutSeconds": 60},
    ),
    Case(
        cluster.group_priority_needs_autoscaler_v2,
        ({f"{GROUP}.priority": 1}, V2 | {f"{GROUP}.priority": 1, f"{CLUSTER}.rayVersion": "2.55.1"}),
        V2 | {f"{GROUP}.priority": 1},
    ),
    Case(
        cluster.fault_tolerance_is_said_once,
        (TOLERANT | annotated(cluster.FT_ENABLED, "true"),),
        annotated(cluster.FT_ENABLED, "true"),
    ),
    Case(
        cluster.redis_address_needs_fault_tolerance,
        ({f"{HEAD}.{RAY}.env": variables("RAY_REDIS_ADDRESS")},),
        annotated(cluster.FT_ENABLED, "true") | {f"{HEAD}.{RAY}.env": variables("RAY_REDIS_ADDRESS")},
    ),
    Case(
        cluster.redis_is_not_configured_beside_the_options,
        (
            TOLERANT | {f"{HEAD}.rayStartParams.redis-password": "x"},
            TOLERANT | {f"{HEAD}.{RAY}.env": variables("REDIS_PASSWORD")},
            TOLERANT | {f"{HEAD}.{RAY}.env": variables("RAY_REDIS_ADDRESS")},
            TOLERANT | annotated(cluster.EXTERNAL_STORAGE, "x"),
        ),
        TOLERANT,
    ),
    Case(
        cluster.fault_tolerance_backend_is_redis,
        (
            {f"{CLUSTER}.gcsFaultToleranceOptions": {"backend": "rocksdb"}},
            TOLERANT | {f"{CLUSTER}.gcsFaultToleranceOptions.storage": {"size": "1Gi"}},
        ),
        TOLERANT,
    ),
    Case(
        cluster.redis_user_is_an_option,
        (
            {f"{HEAD}.rayStartParams.redis-username": "x"},
            TOLERANT | {f"{HEAD}.{RAY}.env": variables("REDIS_USERNAME")},
        ),
        TOLERANT | {f"{CLUSTER}.gcsFaultToleranceOptions.redisUsername": {"value": "x"}},
    ),
    Case(
        cluster.autoscaled_groups_are_not_suspended,
        (AUTOSCALED | {f"{GROUP}.suspend": True},),
        {f"{GROUP}.suspend": True},
    ),
    Case(
        cluster.autoscaler_v2_is_an_option,
        (
            {f"{HEAD}.{RAY}.env": variables("RAY_enable_autoscaler_v2", value="1")},
            V2 | {f"{HEAD}.{RAY}.env": variables("RAY_enable_autoscaler_v2", value="0")},
        ),
        V2,
    ),
    Case(
        cluster.autoscaler_v2_restarts_nothing,
        (
            V2 | {f"{HEAD}.template.spec.restartPolicy": "Always"},
            V2 | {f"{GROUP}.template.spec.restartPolicy": "OnFailure"},
        ),
        V2 | {f"{GROUP}.template.spec.restartPolicy": "Never"},
    ),
    Case(
        cluster.autoscaler_command_is_the_operators,
        (AUTOSCALED | {f"{CLUSTER}.autoscalerOptions.env": variables(cluster.AUTOSCALER_COMMAND)},),
        AUTOSCALED | {f"{CLUSTER}.autoscalerOptions.env": variables("OTHER")},
    ),
    Case(
        cluster.gated_fields_are_not_set,
        tuple({f"{CLUSTER}.{key}": {}} for key in cluster.GATED),
    ),
    Case(
        cluster.tokens_need_a_ray_version,
        (
            {f"{CLUSTER}.authOptions": {"mode": "token"}, f"{CLUSTER}.rayVersion": None},
            {f"{CLUSTER}.authOptions": {"mode": "token"}, f"{CLUSTER}.rayVersion": "2.51.9"},
        ),
        {f"{CLUSTER}.authOptions": {"mode": "token"}},
    ),
)


def changed(changes: Changes) -> RayService:
    """The sample with changes."""
    body = copy.deepcopy(SAMPLE)
    for path, value in changes.items():
        *parents, last = path.split(".")
        at: Any = body
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at.setdefault(key, {})
        if value is None:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = copy.deepcopy(value)
    return RayService(body=body)


def test_the_sample_breaks_no_rule() -> None:
    assert violations(changed({})) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule.__name__)
def test_a_rule_tells_kept_from_broken(case: Case) -> None:
    assert list(case.rule(changed(case.kept))) == []
    for changes in case.broken:
        assert list(case.rule(changed(changes))), f"not noticed: {changes}"


def test_every_rule_has_its_case_and_its_source() -> None:
    assert [case.rule for case in CASES] == list(RULES)
    assert all(rule.__doc__ for rule in RULES)
