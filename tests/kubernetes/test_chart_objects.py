"""The objects of the chart among themselves: names, labels, selectors, references, scaling, and two releases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.kubernetes.cases import ALL, EVERYTHING, LEAST, LONGEST_RELEASE, Case, merged, pool, serving
from tests.kubernetes.operator_rules import violations
from tests.kubernetes.pods import PodView, pods, pods_of, selects
from tests.kubernetes.ray_service import RayService
from tests.kubernetes.render import Manifest, Rendered, Renderer

RECOMMENDED = frozenset(
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "component", "part-of", "managed-by")
) | {"helm.sh/chart"}
CHANGING = frozenset({"app.kubernetes.io/version", "helm.sh/chart", "app.kubernetes.io/managed-by"})
"""Labels that another version of the chart changes; selectors of workloads cannot change."""
LABEL = re.compile(r"([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST = {"Service": 63, "StatefulSet": 52, "CronJob": 52, "Job": 63, "Deployment": 63, "RayService": 47}
"""A StatefulSet's Pods have its name, a dash and ten characters of a hash in a label, of 63; Kubernetes adds eleven
characters to a CronJob's name. Whatever is not here may have 253."""

each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)


@each_case
def test_names_are_legal(render: Renderer, case: Case) -> None:
    for release in (case.release, LONGEST_RELEASE):
        _legal(case.render(render, release=release))


@pytest.mark.parametrize("length", [1, 20, 30, 31, 36, 40, 41, 47, 52])
def test_names_are_legal_at_every_length_of_a_release(render: Renderer, length: int) -> None:
    rendered = render(EVERYTHING, release=("release" * 8)[:length])
    _legal(rendered)
    assert [line for one in rendered.by_kind("RayService") for line in violations(RayService.of(one))] == []


def _legal(rendered: Rendered) -> None:
    for one in rendered:
        assert len(one.name) <= LONGEST.get(one.kind, 253), f"{one}: {len(one.name)} characters"
        assert SUBDOMAIN.fullmatch(one.name), str(one)
        if one.kind == "Service":
            assert DNS_1035.fullmatch(one.name), str(one)
        for template in _templates(one):
            assert len(template["name"]) <= 63, f"{one} {template}"


def _templates(manifest: Manifest) -> Iterator[dict[str, Any]]:
    for claim in manifest.spec.get("volumeClaimTemplates") or []:
        yield claim["metadata"]
    for pod in pods_of(manifest):
        yield from pod.spec.get("volumes") or []


@each_case
def test_labels_are_legal_and_complete(render: Renderer, case: Case) -> None:
    rendered = case.render(render, release=LONGEST_RELEASE)
    labelled = [(str(one), one.labels) for one in rendered] + [(str(pod), pod.labels) for pod in pods(rendered)]
    for where, labels in labelled:
        assert labels.keys() >= RECOMMENDED, f"{where} lacks {RECOMMENDED - labels.keys()}"
        for key, value in labels.items():
            assert isinstance(value, str), f"{where} {key}: {value!r}"
            assert len(value) <= 63, f"{where} {key}: {value}"
            assert LABEL.fullmatch(value), f"{where} {key}: {value}"


def test_common_labels_and_annotations_are_everywhere(render: Renderer) -> None:
    rendered = render(EVERYTHING)
    for where, labels in [(str(one), one.labels) for one in rendered] + [
        (str(pod), pod.labels) for pod in pods(rendered)
    ]:
        assert (labels.get("team"), labels.get("cost-center")) == ("serving", "0042"), where
    for one in rendered:
        assert one.annotations.get("example.com/owner") == "serving", str(one)


@each_case
def test_selectors_match_their_pods_and_nobody_elses(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    every = pods(rendered)
    for workload in rendered.by_kind("Deployment", "StatefulSet"):
        selector = workload.spec["selector"]
        assert not CHANGING & selector["matchLabels"].keys(), str(workload)
        matched = [pod for pod in every if selects(selector, pod.labels)]
        assert [pod.owner for pod in matched] == [workload], f"{workload} selects {[str(pod) for pod in matched]}"
    for one in rendered.by_kind("PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
        selector = one.spec.get("podSelector", one.spec.get("selector"))
        assert selector, f"{one} selects every Pod"
        optional = one.component in {"model-prefetch", "test"}  # Pods that come and go
        assert optional or any(selects(selector, pod.labels) for pod in every), f"{one} selects no Pod"


@each_case
def test_services_lead_to_declared_ports(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    for service in rendered.by_kind("Service"):
        targets = [pod for pod in pods(rendered) if selects({"matchLabels": service.spec["selector"]}, pod.labels)]
        assert len(targets) == 1, f"{service} selects {[str(pod) for pod in targets]}"
        for port in service.spec["ports"]:
            assert targets[0].port(port.get("targetPort", port["port"])) is not None, f"{service} {port}"
    for monitor in rendered.by_kind("ServiceMonitor"):
        (service,) = (one for one in rendered.by_kind("Service") if selects(monitor.spec["selector"], one.labels))
        names = {port["name"] for port in service.spec["ports"]}
        assert {endpoint["port"] for endpoint in monitor.spec["endpoints"]} <= names, str(monitor)
    for monitor in rendered.by_kind("PodMonitor"):
        for pod in (pod for pod in pods(rendered) if selects(monitor.spec["selector"], pod.labels)):
            for endpoint in monitor.spec["podMetricsEndpoints"]:
                assert pod.port(endpoint["port"]) is not None, f"{monitor}: {pod}"


@each_case
def test_routes_lead_to_service_ports(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    services = {one.name: {port["port"] for port in one.spec["ports"]} for one in rendered.by_kind("Service")}
    for route in rendered.by_kind("HTTPRoute", "GRPCRoute"):
        for backend in [backend for rule in route.spec["rules"] for backend in rule["backendRefs"]]:
            assert backend["port"] in services[backend["name"]], str(route)
    for ingress in rendered.by_kind("Ingress"):
        for path in [path for rule in ingress.spec["rules"] for path in rule["http"]["paths"]]:
            backend = path["backend"]["service"]
            assert backend["port"]["number"] in services[backend["name"]], str(ingress)


@each_case
def test_what_is_named_exists(render: Renderer, case: Case) -> None:
    """Every ConfigMap, Secret, account and claim is rendered, or the values say that it is there already."""
    rendered = case.render(render)
    there = {(one.kind, one.name) for one in rendered} | case.existing
    there |= {("Secret", one.spec["secretName"]) for one in rendered.by_kind("Certificate")}
    for pod in pods(rendered):
        for kind, name in _named(pod):
            assert (kind, name) in there, f"{pod} needs {kind} {name}"
    for one in rendered.by_kind("RayService", "Ingress", "ServiceMonitor"):
        for kind, name in _references(one.spec):
            assert (kind, name) in there, f"{one} needs {kind} {name}"


def _named(pod: PodView) -> Iterator[tuple[str, str]]:
    yield from _references(pod.spec)
    account = pod.spec["serviceAccountName"]
    if account != "default":
        yield "ServiceAccount", account
    yield from (("Secret", one["name"]) for one in pod.spec.get("imagePullSecrets") or [])


def _references(value: Any) -> Iterator[tuple[str, str]]:
    """Whatever looks like a name of a ConfigMap, Secret or claim, wherever it is."""
    if isinstance(value, list):
        for one in value:
            yield from _references(one)
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "secretName":
                yield "Secret", one
            elif key == "claimName":
                yield "PersistentVolumeClaim", one
            elif key in {"secretKeyRef", "secretRef", "credentials"} and isinstance(one, dict):
                yield "Secret", one["name"]
            elif key in {"configMapKeyRef", "configMapRef", "configMap"} and isinstance(one, dict):
                yield "ConfigMap", one["name"]
            else:
                yield from _references(one)


@each_case
def test_mounted_keys_are_in_what_is_mounted(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    for pod in pods(rendered):
        for volume in pod.spec.get("volumes") or []:
            for kind, key in (("Secret", "secret"), ("ConfigMap", "configMap")):
                source = volume.get(key) or {}
                name = source.get("secretName", source.get("name"))
                known = [one for one in rendered.by_kind(kind) if one.name == name]
                held = {item for one in known for part in ("data", "stringData") for item in one.body.get(part) or {}}
                wanted = {item["key"] for item in source.get("items") or []}
                assert not known or wanted <= held, f"{pod} {volume['name']} wants {wanted - held}"


@each_case
def test_mounts_and_volumes_agree(render: Renderer, case: Case) -> None:
    for pod in pods(case.render(render)):
        volumes = [volume["name"] for volume in pod.spec.get("volumes") or []]
        volumes += [one["metadata"]["name"] for one in pod.owner.spec.get("volumeClaimTemplates") or []]
        assert len(set(volumes)) == len(volumes), str(pod)
        mounted = {mount["name"] for one in pod.containers for mount in one.get("volumeMounts") or []}
        assert mounted == set(volumes), f"{pod}: {mounted ^ set(volumes)}"
        for container in pod.containers:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
            assert len(set(paths)) == len(paths), f"{pod} {container['name']}"
            names = [one["name"] for one in container.get("env") or []]
            assert len(set(names)) == len(names), f"{pod} {container['name']} sets a variable twice"


@each_case
def test_scaling_and_disruption_agree(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    (gateway,) = rendered.by_kind("Deployment")
    scalers = rendered.by_kind("HorizontalPodAutoscaler")
    assert ("replicas" in gateway.spec) is not bool(scalers), "an HPA and `replicas` undo each other"
    least = gateway.spec.get("replicas", 1)
    for scaler in scalers:
        target = scaler.spec["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", gateway.name)
        least = scaler.spec["minReplicas"]
        assert 1 <= least <= scaler.spec["maxReplicas"]
        (resource,) = (one["resource"]["name"] for one in scaler.spec["metrics"])
        requested = gateway.spec["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert resource in requested, "a share of a request needs a request"
    for budget in rendered.by_kind("PodDisruptionBudget", component="gateway"):
        assert selects(budget.spec["selector"], gateway.spec["template"]["metadata"]["labels"])
        allowed = budget.spec.get("maxUnavailable", least - budget.spec.get("minAvailable", 0))
        assert allowed >= 1, f"{budget} never lets a node be drained"
        assert least == 1 or allowed < least, f"{budget} lets all {least} go at once"


@each_case
def test_workers_go_one_at_a_time(render: Renderer, case: Case) -> None:
    """Each budget is of one worker group, and lets exactly one of its workers go."""
    rendered = case.render(render)
    workers = [pod for pod in pods(rendered) if pod.component == "ray-worker" and pod.group is not None]
    for budget in rendered.by_kind("PodDisruptionBudget", component="ray-worker"):
        groups = [pod.group for pod in workers if selects(budget.spec["selector"], pod.labels) and pod.group]
        assert len({group["groupName"] for group in groups}) == 1, str(budget)
        hosts = groups[0].get("numOfHosts", 1)
        assert budget.spec["minAvailable"] == groups[0]["replicas"] * hosts - hosts >= 1, str(budget)


@each_case
def test_gpus_are_ranks_times_replicas(render: Renderer, case: Case) -> None:
    """Over all workers of a group and its hosts, at least and at most, but for what is left over in its last worker."""
    for service in case.render(render).by_kind("RayService"):
        applications = yaml.safe_load(service.spec["serveConfigV2"])["applications"]
        for group in service.spec["rayClusterConfig"]["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            each = sum(int(count) for name, count in limits.items() if name.endswith("/gpu"))
            assert each == int(group["rayStartParams"].get("num-gpus", 0)), f"{service} {group['groupName']}"
            if not each:
                continue
            a_worker = each * group.get("numOfHosts", 1)
            least, most, members = 0, 0, 0
            for application in applications:
                (section,) = application["args"]["config"]["pools"]
                if section["worker_group"] == group["groupName"]:
                    (deployment,) = application["deployments"]
                    scale = deployment.get("autoscaling_config") or {}
                    ranks = section.get("tensor_parallel", 1)
                    least += ranks * scale.get("min_replicas", deployment["num_replicas"])
                    most += ranks * scale.get("max_replicas", deployment["num_replicas"])
                    members += 1
            assert group["maxReplicas"] * a_worker >= most, f"{service} {group['groupName']}"
            scales = service.spec["rayClusterConfig"].get("enableInTreeAutoscaling", False)
            assert group["minReplicas"] == (0 if scales else group["replicas"]), f"{service} {group['groupName']}"
            for needed, workers in ((least, group["replicas"]), *([] if scales else [(most, group["maxReplicas"])])):
                spare = workers * a_worker - needed
                assert 0 <= spare < a_worker * members, f"{service} {group['groupName']}: {needed} on {workers} workers"


OTHERS = ("longreach", "longreach-2", "two", LONGEST_RELEASE, LONGEST_RELEASE[:-1] + "6")


def test_releases_in_one_namespace_share_nothing(render: Renderer) -> None:
    """Also where names begin alike for longer than a name may be."""
    rendered = [render(EVERYTHING, release=release) for release in OTHERS]
    keys = [(one.kind, one.name) for each in rendered for one in each]
    assert len(set(keys)) == len(keys), sorted({key for key in keys if keys.count(key) > 1})
    for own in rendered:
        strangers = [pod for other in rendered if other is not own for pod in pods(other)]
        for one in own.by_kind(
            "Service", "Deployment", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"
        ):
            selector = one.spec.get("podSelector", one.spec.get("selector"))
            labels = {"matchLabels": selector} if one.kind == "Service" else selector
            assert not [str(pod) for pod in strangers if selects(labels, pod.labels)], str(one)


def test_a_name_override_keeps_releases_apart(render: Renderer) -> None:
    values = merged(LEAST, {"nameOverride": "llm"})
    keys = [(one.kind, one.name) for release in ("a", "b") for one in render(values, release=release)]
    assert len(set(keys)) == len(keys)


def test_selectors_stay_when_versions_and_values_change(render: Renderer) -> None:
    """A workload's selector cannot be changed: an upgrade that tries is refused by the API server."""
    other = merged(
        serving(pool("chat", context_tokens=8192)), {"commonLabels": {"a": "b"}, "gateway": {"podLabels": {"c": "d"}}}
    )
    first, second = render(LEAST), render(other)
    for workload in first.by_kind("Deployment", "StatefulSet"):
        assert second.one(workload.kind, name=workload.name).spec["selector"] == workload.spec["selector"]
        if workload.kind == "StatefulSet":
            claims = [
                one.spec.get("volumeClaimTemplates")
                for one in (workload, second.one("StatefulSet", name=workload.name))
            ]
            assert claims[0] == claims[1], f"{workload}: volumeClaimTemplates cannot be changed either"
