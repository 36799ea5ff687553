"""Who may connect to whom under a set of NetworkPolicies, as Kubernetes defines it.

A connection needs both ends: egress of who connects and ingress of who is connected to. Where the definition leaves
room, this takes the reading that opens more: an ipBlock takes Pods by their address too. What must not live here: who
should be able to connect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.pods import PodView, selects
from tests.kubernetes.render import Manifest

POD_ADDRESS = "10.244.1.7"
NAMESPACE = "serving"
NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One end of a connection: a Pod, or an address outside of the cluster, which has no labels."""

    labels: dict[str, str] | None = None
    namespace: str = NAMESPACE
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str = POD_ADDRESS
    ports: dict[str, int] = field(default_factory=dict)
    """Declared ones, by name."""

    @classmethod
    def of(cls, pod: PodView, *, namespace: str = NAMESPACE) -> Peer:
        declared = [port for one in pod.spec["containers"] for port in one.get("ports") or []]
        ports = {port["name"]: port["containerPort"] for port in declared if "name" in port}
        return cls(labels=pod.labels, namespace=namespace, ports=ports)

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """Kubernetes gives every namespace its name as a label."""
        return {NAME_LABEL: self.namespace} | self.namespace_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The NetworkPolicies of one namespace."""

    manifests: tuple[Manifest, ...]
    namespace: str = NAMESPACE

    @classmethod
    def of(cls, manifests: Iterable[Manifest], *, namespace: str = NAMESPACE) -> Policies:
        return cls(manifests=tuple(one for one in manifests if one.kind == "NetworkPolicy"), namespace=namespace)

    def allow(self, source: Peer, target: Peer, port: int, *, protocol: str = "TCP") -> bool:
        """Whether a connection from one to a port of the other is allowed at both ends."""

        def fits(rule: dict[str, Any], other: Peer, peers: str) -> bool:
            return _ports(rule, target, port, protocol) and self._peers(rule.get(peers), other)

        leaving, entering = self.isolating(source, "Egress"), self.isolating(target, "Ingress")
        leaves = any(fits(rule, target, "to") for one in leaving for rule in one.spec.get("egress") or [])
        enters = any(fits(rule, source, "from") for one in entering for rule in one.spec.get("ingress") or [])
        return (leaves or not leaving) and (enters or not entering)

    def isolating(self, peer: Peer, direction: str) -> list[Manifest]:
        """The policies that close one direction of a Pod but for what they name."""
        if peer.labels is None or peer.namespace != self.namespace:
            return []
        return [
            one
            for one in self.manifests
            if direction in _types(one) and selects(one.spec.get("podSelector"), peer.labels)
        ]

    def _peers(self, allowed: list[dict[str, Any]] | None, peer: Peer) -> bool:
        return not allowed or any(self._matches(one, peer) for one in allowed)

    def _matches(self, allowed: dict[str, Any], peer: Peer) -> bool:
        if "ipBlock" in allowed:
            address = ipaddress.ip_address(peer.address)
            block = allowed["ipBlock"]
            inside = address in ipaddress.ip_network(block["cidr"])
            return inside and not any(address in ipaddress.ip_network(one) for one in block.get("except") or [])
        if peer.labels is None:
            return False
        if "namespaceSelector" in allowed:
            near = selects(allowed["namespaceSelector"], peer.all_namespace_labels)
        else:
            near = peer.namespace == self.namespace
        return near and selects(allowed.get("podSelector"), peer.labels)


def _types(policy: Manifest) -> list[str]:
    implied = ["Ingress", *(["Egress"] if "egress" in policy.spec else [])]
    found: list[str] = policy.spec.get("policyTypes") or implied
    return found


def _ports(rule: dict[str, Any], target: Peer, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(_port(one, target, port, protocol) for one in ports)


def _port(allowed: dict[str, Any], target: Peer, port: int, protocol: str) -> bool:
    if allowed.get("protocol", "TCP") != protocol:
        return False
    first = allowed.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return target.ports.get(first) == port
    return int(first) <= port <= int(allowed.get("endPort", first))
