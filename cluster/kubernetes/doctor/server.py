"""The API server's version, the APIs it has, the KubeRay operator and its CRDs.

What must not live here: the namespace, nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.doctor.finding import Finding, error, fine, note, warning
from cluster.kubernetes.faults import AbsentError, DeniedError, UnreachableError
from cluster.kubernetes.resources import (
    DEPLOYMENTS,
    GRPC_ROUTES,
    HTTP_ROUTES,
    METRICS_GROUP,
    POD_MONITORS,
    PROMETHEUS_RULES,
    RAY_SERVICES,
    SERVICE_MONITORS,
    Resource,
)

VERSIONS = ((1, 31), (1, 37))
"""What the chart is checked against: the first and the last."""
KUBERAY = (1, 7)
KUBERAY_REMEDY = (
    "helm repo add kuberay https://ray-project.github.io/kuberay-helm/ && "
    "helm upgrade --install kuberay-operator kuberay/kuberay-operator --version 1.7.0"
)
CRD_REMEDY = (
    "helm does not upgrade CRDs: kubectl apply --server-side --force-conflicts -k "
    "'github.com/ray-project/kuberay/ray-operator/config/crd?ref=v1.7.0'"
)
CRD_MARK = "suspend"
"""A field of RayService's spec that 1.6 does not have."""
OPERATOR_LABEL = "app.kubernetes.io/name=kuberay-operator"
_VERSION = re.compile(r"v?(?P<major>\d{1,4})\.(?P<minor>\d{1,4})")


def check_version(api: ClusterApi) -> list[Finding]:
    """Whether the server is one the chart was checked against."""
    document = api.document("/version")
    text = str(document.get("gitVersion", "")) if isinstance(document, dict) else ""
    version = version_of(text)
    low, high = VERSIONS
    supported = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
    if version is None:
        return [warning("server", f"version {text!r} is not understood", f"supported are {supported}")]
    if version < low:
        return [error("server", f"Kubernetes {text} is older than {supported}", "upgrade the cluster")]
    if version > high:
        return [warning("server", f"Kubernetes {text} is newer than {supported}", "look for a newer Longreach")]
    return [fine("server", f"Kubernetes {text}")]


def version_of(text: str) -> tuple[int, int] | None:
    """Major and minor of `v1.34.2-eks-1`, or of an image's tag."""
    found = _VERSION.match(text)
    return (int(found["major"]), int(found["minor"])) if found else None


def check_apis(api: ClusterApi, groups: frozenset[str]) -> list[Finding]:
    """The optional APIs: each lack only takes one feature away."""
    findings = [
        _optional(
            api,
            groups,
            (HTTP_ROUTES, GRPC_ROUTES),
            "Gateway API routes, and incremental upgrades",
            "install the Gateway API CRDs (standard channel) and a controller, or leave gateway.gatewayApi off",
        ),
        _optional(
            api,
            groups,
            (SERVICE_MONITORS, POD_MONITORS, PROMETHEUS_RULES),
            "metrics and alerts by themselves",
            "install the Prometheus operator, or scrape the gateways yourself and leave monitoring off",
        ),
    ]
    try:
        api.document(f"/apis/{METRICS_GROUP}/v1beta1")
        findings.append(fine("apis", f"{METRICS_GROUP} answers: HorizontalPodAutoscalers can scale by CPU"))
    except (AbsentError, UnreachableError) as fault:
        findings.append(
            warning(
                "apis",
                f"{METRICS_GROUP} does not answer, so the gateway's HorizontalPodAutoscaler cannot scale: "
                f"{fault.problem}",
                "install metrics-server, or set gateway.autoscaling.enabled to false",
            )
        )
    return findings


def groups_of(api: ClusterApi) -> frozenset[str]:
    """The names of the API groups the server has."""
    document = api.document("/apis")
    groups = document.get("groups") or () if isinstance(document, dict) else ()
    return frozenset(str(group.get("name", "")) for group in groups)


def check_kuberay(api: ClusterApi, groups: frozenset[str]) -> list[Finding]:
    """The CRDs and the operator."""
    if RAY_SERVICES.group not in groups or RAY_SERVICES.plural not in _plurals(api, RAY_SERVICES):
        return [error("kuberay", "the cluster has no RayService (ray.io/v1)", KUBERAY_REMEDY)]
    return [_crds(api), *_operator(api)]


def _crds(api: ClusterApi) -> Finding:
    """By a field of the schema: CRDs carry no version of the operator they came with."""
    try:
        document = api.document(f"/openapi/v3/apis/{RAY_SERVICES.group}/{RAY_SERVICES.version}")
    except (AbsentError, UnreachableError) as fault:
        return note("kuberay", f"how new the RayService CRD is cannot be seen: {fault.problem}", CRD_REMEDY)
    schemas = (document.get("components") or {}).get("schemas") or {} if isinstance(document, dict) else {}
    fields = next(
        (
            ((schema.get("properties") or {}).get("spec") or {}).get("properties") or {}
            for schema in schemas.values()
            if _is_kind(schema, "RayService")
        ),
        {},
    )
    if CRD_MARK not in fields:
        return error("kuberay", "the RayService CRD is older than KubeRay 1.7", CRD_REMEDY)
    return fine("kuberay", "the RayService CRD is KubeRay 1.7's or newer")


def _operator(api: ClusterApi) -> list[Finding]:
    try:
        deployments = api.read(DEPLOYMENTS, labels=OPERATOR_LABEL)
    except DeniedError as denied:
        return [note("kuberay", f"the operator's version cannot be seen: {denied.problem}", denied.remedy)]
    if not deployments:
        return [
            warning(
                "kuberay",
                f"no Deployment has the label {OPERATOR_LABEL}: no operator, or one installed another way",
                f"where none runs, nothing becomes of a RayService: {KUBERAY_REMEDY}",
            )
        ]
    return [finding for deployment in deployments for finding in operator_findings(deployment)]


def operator_findings(deployment: Mapping[str, Any]) -> list[Finding]:
    """What one operator's Deployment says of itself."""
    metadata = deployment["metadata"]
    where = f"operator {metadata.get('namespace', '')}/{metadata['name']}"
    told = [str(container.get("image", "")).rpartition(":")[2] for container in _containers(deployment)]
    told += [str((metadata.get("labels") or {}).get("helm.sh/chart", "")).removeprefix("kuberay-operator-")]
    known = [(text, version) for text in told if (version := version_of(text)) is not None]
    findings = []
    if not known:
        findings.append(note("kuberay", f"{where} has no version in its image's tag ({told[0]})", KUBERAY_REMEDY))
    elif known[0][1] != KUBERAY:
        newer = known[0][1] > KUBERAY
        sentence = f"{where} is {known[0][0]}; Longreach is checked with 1.7"
        findings.append((warning if newer else error)("kuberay", sentence, KUBERAY_REMEDY))
    else:
        findings.append(fine("kuberay", f"{where} is {known[0][0]}"))
    if not (deployment.get("status") or {}).get("readyReplicas"):
        findings.append(
            error(
                "kuberay",
                f"{where} is not ready",
                f"kubectl -n {metadata.get('namespace')} describe pods -l {OPERATOR_LABEL}",
            )
        )
    return findings


def _optional(
    api: ClusterApi, groups: frozenset[str], wanted: Iterable[Resource], what_for: str, remedy: str
) -> Finding:
    missing = [
        resource.name
        for resource in wanted
        if resource.group not in groups or resource.plural not in _plurals(api, resource)
    ]
    if missing:
        return warning("apis", f"without {', '.join(missing)} there is no {what_for}", remedy)
    return fine("apis", f"{', '.join(resource.name for resource in wanted)} are there")


def _plurals(api: ClusterApi, resource: Resource) -> frozenset[str]:
    try:
        document = api.document(f"/apis/{resource.group}/{resource.version}")
    except AbsentError:
        return frozenset()
    listed = document.get("resources") or () if isinstance(document, dict) else ()
    return frozenset(str(found.get("name", "")) for found in listed)


def _is_kind(schema: Mapping[str, Any], kind: str) -> bool:
    return any(entry.get("kind") == kind for entry in schema.get("x-kubernetes-group-version-kind") or ())


def _containers(deployment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers") or ())
