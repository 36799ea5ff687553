"""What the caller may do, asked of the API server itself (SelfSubjectAccessReview).

What must not live here: the table of rights (cluster/kubernetes/rights.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.doctor.finding import Finding, error, fine, note
from cluster.kubernetes.resources import ACCESS_REVIEWS
from cluster.kubernetes.rights import RIGHTS, Command, Right


def may(api: ClusterApi, *, verb: str, group: str, plural: str, namespace: str | None) -> bool:
    """Whether the caller may do this; `*` asks about everything at once."""
    attributes = {"verb": verb, "group": group, "resource": plural}
    review = {
        "apiVersion": f"{ACCESS_REVIEWS.group}/{ACCESS_REVIEWS.version}",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes if namespace is None else {**attributes, "namespace": namespace}},
    }
    answer = api.create(ACCESS_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))


def check_install_rights(api: ClusterApi, groups: frozenset[str], commands: Iterable[Command]) -> list[Finding]:
    """The rights of helm, and of these commands, in the release's namespace."""
    if may(api, verb="*", group="*", plural="*", namespace=api.namespace):
        return [fine("access", f"everything is allowed in namespace {api.namespace}")]
    findings = []
    for command in commands:
        missing = [(right, verbs) for right in RIGHTS[command] if (verbs := _missing(api, groups, right))]
        if not missing:
            findings.append(fine("access", f"all that {command} needs is allowed"))
            continue
        needed = [entry for entry in missing if entry[0].needed]
        optional = [entry for entry in missing if not entry[0].needed]
        remedy = f"have an admin apply the output of `longreach k8s rbac {command} -n {api.namespace}`, and bind it"
        if needed:
            findings.append(error("access", f"{command} is not allowed: {_listed(needed)}", remedy))
        if optional:
            findings.append(note("access", f"{command} goes without: {_listed(optional)}", remedy))
    return findings


def _missing(api: ClusterApi, groups: frozenset[str], right: Right) -> tuple[str, ...]:
    resource = right.resource
    if resource.group and resource.group not in groups:
        return ()  # the kind is not there; its own check says so
    namespace = None if right.cluster_wide else api.namespace
    return tuple(
        verb
        for verb in right.verbs
        if not may(api, verb=verb, group=resource.group, plural=resource.plural, namespace=namespace)
    )


def _listed(missing: Iterable[tuple[Right, tuple[str, ...]]]) -> str:
    by_verbs: dict[tuple[str, ...], list[str]] = {}
    for right, verbs in missing:
        by_verbs.setdefault(verbs, []).append(right.resource.name)
    return "; ".join(f"{', '.join(verbs)} of {', '.join(names)}" for verbs, names in by_verbs.items())
