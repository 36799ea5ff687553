"""Who may connect to whom, by the chart's NetworkPolicies: Redis, Ray and the admin ports are closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.kubernetes.cases import ALL, EVERYTHING, EXTERNAL_REDIS, LEAST, STATIC, Case, merged
from tests.kubernetes.network import Peer, Policies
from tests.kubernetes.pods import pods
from tests.kubernetes.render import Rendered, Renderer

RAY_PORTS = (6379, 8000, 8080, 8265, 10001, 10002, 52365, 30000, 30500, 44444)
"""GCS, Serve, metrics, dashboard, client, workers, agent, replicas, and one of those that Ray picks."""
REDIS = ("redis-state", "redis-cache", "redis-gcs")
RAY = ("ray-head", "ray-worker")
STRANGERS = {
    "a Pod beside": Peer(labels={"app": "stranger"}),
    "a Pod beside that takes a part of the labels": Peer(
        labels={"app.kubernetes.io/name": "longreach", "app.kubernetes.io/component": "gateway"}
    ),
    "a Pod of another namespace": Peer(labels={"app": "stranger"}, namespace="other"),
    "an address outside": Peer(address="203.0.113.9"),
}
OPERATOR = Peer(labels={"app.kubernetes.io/name": "kuberay-operator"}, namespace="kuberay-system")
DNS = Peer(labels={"k8s-app": "kube-dns"}, namespace="kube-system")
PROMETHEUS = Peer(labels={"app.kubernetes.io/name": "prometheus"}, namespace="monitoring")
CLIENT = Peer(labels={"app": "client"}, namespace="team", namespace_labels={"client": "true"})
METADATA_SERVICE = Peer(address="169.254.169.254")

PROTECTED = tuple(case for case in ALL if case.name != "bare")
each_case = pytest.mark.parametrize("case", PROTECTED, ids=lambda case: case.name)


def actors(rendered: Rendered) -> dict[str, Peer]:
    """One Pod of each component; workers of several groups are alike to policies."""
    return {pod.component: Peer.of(pod) for pod in pods(rendered)}


@each_case
def test_every_pod_is_closed_both_ways(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    policies = Policies.of(rendered)
    for pod in pods(rendered):
        for direction in ("Ingress", "Egress"):
            assert policies.isolating(Peer.of(pod), direction), f"{pod} is open: {direction}"


@each_case
def test_strangers_reach_neither_redis_nor_ray(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    policies, there = Policies.of(rendered), actors(rendered)
    for name, stranger in STRANGERS.items():
        for component in {*REDIS, *RAY} & there.keys():
            for port in RAY_PORTS:
                assert not policies.allow(stranger, there[component], port), f"{name} reaches {component}:{port}"
        assert not policies.allow(stranger, there["gateway"], 8081), f"{name} reaches the admin port"


@each_case
def test_a_clients_namespace_opens_the_gateway_only(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    policies, there = Policies.of(rendered), actors(rendered)
    for component in {*REDIS, *RAY} & there.keys():
        for port in RAY_PORTS:
            assert not policies.allow(CLIENT, there[component], port), f"{component}:{port}"


WANTED: tuple[tuple[str, str, int], ...] = (
    ("gateway", "redis-state", 6379),
    ("ray-worker", "redis-state", 6379),
    ("ray-head", "redis-state", 6379),
    ("ray-worker", "redis-cache", 6379),
    ("ray-head", "redis-gcs", 6379),
    ("gateway", "ray-worker", 30000),
    ("gateway", "ray-worker", 30999),
    ("ray-worker", "ray-head", 6379),
    ("ray-worker", "ray-head", 44444),
    ("ray-head", "ray-worker", 44444),
    ("ray-worker", "ray-worker", 44444),
    ("test", "gateway", 8080),
    ("test", "gateway", 8082),
)
UNWANTED: tuple[tuple[str, str, int], ...] = (
    ("gateway", "redis-cache", 6379),
    ("gateway", "redis-gcs", 6379),
    ("ray-worker", "redis-gcs", 6379),
    ("gateway", "ray-worker", 44444),
    ("gateway", "ray-head", 6379),
    ("gateway", "ray-head", 8265),
    ("gateway", "ray-head", 10001),
    ("gateway", "ray-worker", 31000),
    ("ray-worker", "gateway", 8081),
    ("model-prefetch", "redis-state", 6379),
    ("model-prefetch", "ray-head", 6379),
    ("test", "gateway", 8081),
    ("test", "redis-state", 6379),
    ("test", "ray-worker", 30000),
    ("redis-state", "redis-gcs", 6379),
    ("redis-cache", "ray-head", 6379),
)


@pytest.mark.parametrize(("source", "target", "port"), WANTED)
def test_what_must_connect_does(render: Renderer, source: str, target: str, port: int) -> None:
    rendered = render(EVERYTHING)
    there = actors(rendered)
    assert Policies.of(rendered).allow(there[source], there[target], port)


@pytest.mark.parametrize(("source", "target", "port"), UNWANTED)
def test_what_need_not_connect_does_not(render: Renderer, source: str, target: str, port: int) -> None:
    rendered = render(EVERYTHING)
    there = actors(rendered)
    assert not Policies.of(rendered).allow(there[source], there[target], port)


def test_releases_side_by_side_are_closed_to_each_other(render: Renderer) -> None:
    first, second = (render(EVERYTHING, release=release) for release in ("longreach", "other"))
    policies = Policies.of([*first, *second])
    strangers, there = actors(second), actors(first)
    for stranger in ("gateway", "ray-head", "ray-worker", "redis-state", "model-prefetch", "test"):
        for component in (*REDIS, *RAY):
            for port in RAY_PORTS:
                assert not policies.allow(strangers[stranger], there[component], port), f"{stranger} {component} {port}"


def test_nobody_else_passes_for_the_operator(render: Renderer) -> None:
    """A pod of any tenant can have the operator's label."""
    pretender = Peer(labels=OPERATOR.labels, namespace="team")
    rendered = render(LEAST)
    assert not Policies.of(rendered).allow(pretender, actors(rendered)["ray-head"], 8265)


@pytest.mark.parametrize("port", [8265, 8000])
def test_the_operator_reaches_the_head(render: Renderer, port: int) -> None:
    rendered = render(LEAST)
    assert Policies.of(rendered).allow(OPERATOR, actors(rendered)["ray-head"], port)
    assert not Policies.of(rendered).allow(OPERATOR, actors(rendered)["ray-head"], 10001)
    assert not Policies.of(rendered).allow(OPERATOR, actors(rendered)["redis-gcs"], 6379)


@pytest.mark.parametrize(
    "closed",
    [
        {"operator": []},
        {"dns": {"peers": []}},
        {"dns": {"ports": []}},
        {"apiServer": {"ports": []}},
        {"modelSources": {"ports": []}},
        {"modelSources": {"cidrs": []}},
        {"clients": []},
        {"monitoring": []},
    ],
    ids=str,
)
def test_an_empty_list_opens_nothing(render: Renderer, closed: dict[str, Any]) -> None:
    """In Kubernetes an empty `from`, `to` or `ports` means everybody, everywhere, every port."""
    for policy in render(merged(EVERYTHING, {"networkPolicy": closed})).by_kind("NetworkPolicy"):
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy.spec.get(direction) or []:
                assert rule.get(peers, [...]), f"{policy} {direction}: {rule}"
                assert rule.get("ports", [...]), f"{policy} {direction}: {rule}"
                assert peers in rule or "ports" in rule, f"{policy} {direction}: {rule}"


def test_prometheus_reaches_metrics_only(render: Renderer) -> None:
    rendered = render(EVERYTHING)
    policies, there = Policies.of(rendered), actors(rendered)
    assert policies.allow(PROMETHEUS, there["gateway"], 8081)
    for component in RAY:
        opened = [port for port in RAY_PORTS if policies.allow(PROMETHEUS, there[component], port)]
        assert opened == [8080], component


def test_clients_can_be_narrowed(render: Renderer) -> None:
    everybody, some = render(LEAST), render(EVERYTHING)
    stranger = STRANGERS["a Pod of another namespace"]
    for port in (8080, 8082):
        assert Policies.of(everybody).allow(stranger, actors(everybody)["gateway"], port)
        assert Policies.of(some).allow(CLIENT, actors(some)["gateway"], port)
        assert not Policies.of(some).allow(stranger, actors(some)["gateway"], port)


@each_case
def test_names_are_resolved_and_nothing_else_leaves_by_chance(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    policies, there = Policies.of(rendered), actors(rendered)
    outside = Peer(address="203.0.113.9")
    for component, peer in there.items():
        assert component in REDIS or policies.allow(peer, DNS, 53, protocol="UDP"), component
        assert not policies.allow(peer, METADATA_SERVICE, 80), f"{component} reaches the cloud's credentials"
        assert not policies.allow(peer, outside, 25), component
        if component in REDIS:
            assert not policies.allow(peer, outside, 443), component


def test_only_an_autoscaled_head_reaches_the_api_server(render: Renderer) -> None:
    closed: dict[str, Any] = {"networkPolicy": {"modelSources": {"cidrs": []}, "apiServer": {"cidrs": ["10.0.0.1/32"]}}}
    server = Peer(address="10.0.0.1")
    fixed = merged(LEAST, {"ray": {"autoscaler": {"enabled": False}}})
    for values, scales in ((EVERYTHING, True), (fixed, False)):
        rendered = render(merged(values, closed))
        reached = {name for name, peer in actors(rendered).items() if Policies.of(rendered).allow(peer, server, 443)}
        assert reached == ({"ray-head"} if scales else set())


def test_redis_elsewhere_is_reached_by_its_port(render: Renderer) -> None:
    rendered = render(EXTERNAL_REDIS)
    policies, there = Policies.of(rendered), actors(rendered)
    for component in ("gateway", *RAY):
        assert policies.allow(there[component], Peer(address="203.0.113.9"), 6380), component
        assert not policies.allow(there[component], Peer(address="203.0.113.9"), 6379), component


def test_endpoints_that_others_run_are_reached(render: Renderer) -> None:
    """A pool of static endpoints is no use to a gateway that may not connect to them."""
    rendered = render(STATIC)
    gateway = actors(rendered)["gateway"]
    policies = Policies.of(rendered)
    assert policies.allow(gateway, Peer(address="10.0.0.5"), 8000)
    assert not policies.allow(gateway, Peer(address="10.0.0.5"), 8001)


def test_without_policies_everything_is_open(render: Renderer) -> None:
    """So the tests above do look at the policies."""
    rendered = render(merged(EVERYTHING, {"networkPolicy": {"enabled": False}}))
    assert rendered.by_kind("NetworkPolicy") == []
    there = actors(rendered)
    assert Policies.of(rendered).allow(replace(STRANGERS["a Pod beside"]), there["redis-state"], 6379)
