"""Least privilege: with the rules that `rbac` prints, a command does all it can; without one of them, it says which."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.rights import RIGHTS, Command, Right, rights_table, role_documents
from tests.kube_api import Cluster
from tests.unit.kubernetes import objects as made
from tests.unit.kubernetes.conftest import Ran

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes-cli.md"
K8s = Callable[..., Ran]
LOOKING = [Command.INVENTORY, Command.STATUS, Command.DOCTOR]


def command_line(command: Command) -> list[str]:
    return [command, "--json", *([] if command is Command.INVENTORY else ["--release", made.RELEASE])]


@pytest.mark.parametrize("command", LOOKING)
def test_the_printed_rules_are_enough(k8s: K8s, cluster: Cluster, command: Command) -> None:
    cluster.roles = [*yaml.safe_load_all(k8s("rbac", command, "-n", made.NAMESPACE).out)]
    ran = k8s(*command_line(command))
    assert "403" not in ran.out + ran.err
    assert "may not" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("command", "right"), [(command, right) for command in LOOKING for right in RIGHTS[command]], ids=repr
)
def test_each_rule_is_used_and_its_lack_is_told(k8s: K8s, cluster: Cluster, command: Command, right: Right) -> None:
    cluster.roles = [without(role, right) for role in role_documents([command], namespace=made.NAMESPACE)]
    ran = k8s(*command_line(command))
    words = ran.out + ran.err
    assert f"may not {right.verbs[0]} {right.resource.name}" in words
    assert f"resources: [{right.resource.plural}], verbs: [{right.verbs[0]}]" in words
    if right.needed:
        assert ran.exit_status == 1
    elif command is not Command.DOCTOR:
        assert ran.exit_status == 0, words


def test_nothing_but_reviews_is_ever_written(k8s: K8s, cluster: Cluster) -> None:
    for command in LOOKING:
        k8s(*command_line(command))
    assert {path for method, path, _ in cluster.requests if method != "GET"} == {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    }


def test_the_printed_documents_are_what_kubernetes_takes(
    k8s: K8s, check: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    documents = [*yaml.safe_load_all(k8s("rbac", "-n", "team").out)]
    assert [check(document)["kind"] for document in documents] == ["Role", "ClusterRole"]
    assert documents == k8s("rbac", "all", "-n", "team", "--json").json
    assert all(
        verb in {"get", "list"} for document in documents for rule in document["rules"] for verb in rule["verbs"]
    )
    assert k8s("rbac", "everything").exit_status == 2


def test_the_page_has_the_table(k8s: K8s) -> None:
    found = re.search(r"<!-- rights -->\n(?P<table>.*?)<!-- /rights -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found["table"] == rights_table(), "copy cluster/kubernetes/rights.py's rights_table() there"


def without(role: dict[str, Any], right: Right) -> dict[str, Any]:
    is_cluster_role = role["kind"] == "ClusterRole"
    kept = [
        rule
        for rule in role["rules"]
        if not (rule["resources"] == [right.resource.plural] and is_cluster_role is right.cluster_wide)
    ]
    # A right to all pods includes those of the namespace: what is taken away must be away.
    kept = [rule for rule in kept if not (right.resource.plural == "pods" and rule["resources"] == ["pods"])]
    return {**role, "rules": kept}
