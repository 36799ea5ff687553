"""The reading of NetworkPolicies, on small ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kubernetes.network import Peer, Policies
from tests.kubernetes.render import Manifest

REDIS = Peer(labels={"app": "redis"}, ports={"redis": 6379})
GATEWAY = Peer(labels={"app": "gateway"})
STRANGER = Peer(labels={"app": "stranger"})
ELSEWHERE = Peer(labels={"app": "gateway"}, namespace="other", namespace_labels={"team": "a"})
OUTSIDE = Peer(address="203.0.113.9")
FROM_GATEWAY = {"podSelector": {"matchLabels": {"app": "gateway"}}}


def policies(*specs: dict[str, Any]) -> Policies:
    return Policies.of(
        Manifest(body={"kind": "NetworkPolicy", "metadata": {"name": str(position)}, "spec": spec}, source="test")
        for position, spec in enumerate(specs)
    )


def ingress(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": "redis"}}, "policyTypes": ["Ingress"], "ingress": list(rules)}


def test_nothing_is_closed_without_a_policy() -> None:
    assert policies().allow(STRANGER, REDIS, 6379)


def test_a_policy_closes_only_whom_it_selects() -> None:
    some = policies(ingress())
    assert not some.allow(GATEWAY, REDIS, 6379)
    assert some.allow(REDIS, GATEWAY, 80)


@pytest.mark.parametrize(
    ("allowed", "who", "expected"),
    [
        (FROM_GATEWAY, GATEWAY, True),
        (FROM_GATEWAY, STRANGER, False),
        (FROM_GATEWAY, ELSEWHERE, False),
        (FROM_GATEWAY, OUTSIDE, False),
        ({"namespaceSelector": {}}, ELSEWHERE, True),
        ({"namespaceSelector": {}}, OUTSIDE, False),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}} | FROM_GATEWAY, ELSEWHERE, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}} | FROM_GATEWAY, GATEWAY, False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}, ELSEWHERE, True),
        ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}}, GATEWAY, True),
        ({"ipBlock": {"cidr": "203.0.113.0/24"}}, OUTSIDE, True),
        ({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/30"]}}, OUTSIDE, False),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, STRANGER, True),
    ],
)
def test_peers(allowed: dict[str, Any], who: Peer, expected: bool) -> None:
    assert policies(ingress({"from": [allowed]})).allow(who, REDIS, 6379) is expected


@pytest.mark.parametrize(
    ("ports", "port", "expected"),
    [
        (None, 1, True),
        ([{"port": 6379}], 6379, True),
        ([{"port": 6379}], 6380, False),
        ([{"port": "redis"}], 6379, True),
        ([{"port": "redis"}], 80, False),
        ([{"port": "unknown"}], 6379, False),
        ([{"port": 30000, "endPort": 30999}], 30500, True),
        ([{"port": 30000, "endPort": 30999}], 31000, False),
        ([{"protocol": "UDP", "port": 6379}], 6379, False),
        ([{"protocol": "TCP"}], 6379, True),
    ],
)
def test_ports(ports: list[dict[str, Any]] | None, port: int, expected: bool) -> None:
    rule: dict[str, Any] = {"from": [FROM_GATEWAY]} | ({} if ports is None else {"ports": ports})
    assert policies(ingress(rule)).allow(GATEWAY, REDIS, port) is expected


def test_egress_closes_too_and_policies_add_up() -> None:
    closed = {"podSelector": {"matchLabels": {"app": "gateway"}}, "policyTypes": ["Egress"]}
    opened = {"podSelector": {}, "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]}]}
    assert not policies(closed).allow(GATEWAY, REDIS, 6379)
    more = policies(closed, opened, ingress({"from": [FROM_GATEWAY]}))
    assert more.allow(GATEWAY, REDIS, 6379)
    assert not more.allow(GATEWAY, STRANGER, 6379)
    # `opened` has no policyTypes: it closes ingress of everybody as well.
    assert not more.allow(REDIS, GATEWAY, 80)
