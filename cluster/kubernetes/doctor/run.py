"""All checks in order; a right that is missing becomes a finding, and the rest goes on.

What must not live here: any check's own knowledge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.doctor.access import check_install_rights
from cluster.kubernetes.doctor.finding import Finding, Severity, error, note, warning
from cluster.kubernetes.doctor.gpus import gpu_findings
from cluster.kubernetes.doctor.namespace import policy_findings, security_findings
from cluster.kubernetes.doctor.pods import pull_findings
from cluster.kubernetes.doctor.redis_check import check_redis
from cluster.kubernetes.doctor.room import gives_limits, limit_findings, quota_findings
from cluster.kubernetes.doctor.server import check_apis, check_kuberay, check_version, groups_of
from cluster.kubernetes.doctor.storage import storage_findings
from cluster.kubernetes.doctor.wants import PodWant, wants_gpus, wants_of_manifests, wants_of_service
from cluster.kubernetes.faults import AbsentError, DeniedError
from cluster.kubernetes.reading import read_inventory
from cluster.kubernetes.release.read import COMPONENT_LABEL, ReleaseObjects, read_release
from cluster.kubernetes.resources import LIMIT_RANGES, NAMESPACES, RESOURCE_QUOTAS, STORAGE_CLASSES
from cluster.kubernetes.rights import Command
from cluster.kubernetes.usage import used_by_node
from cluster.state.login import StateServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the options say."""

    release: str
    manifests: Sequence[Any] | None = None
    """What `helm template` wrote, as documents."""
    redis: StateServer | None = None
    """The server of `--redis-url`; None is what the release's configuration names."""
    in_cluster: bool = False


def examine(api: ClusterApi, wish: Examination) -> list[Finding]:
    """Every finding, in the order of the checks.

    Raises:
        SetupError: the API server cannot be reached or does not know the caller.
    """
    findings = check_version(api)
    groups = groups_of(api)
    findings += check_kuberay(api, groups)
    findings += check_apis(api, groups)
    release = _release(api, wish.release, findings)
    wants = _wants(release, wish)
    findings += _allowed("gpus", lambda: _gpus(api, wants), Severity.ERROR)
    findings += _allowed("storage", lambda: storage_findings(api.read(STORAGE_CLASSES)))
    findings += _allowed("quota", lambda: _room(api, wants, release, only_ray=wish.manifests is None))
    findings += pull_findings(release.pods if release is not None else ())
    findings += _allowed("pod security", lambda: _namespace(api))
    findings += policy_findings()
    findings += _redis(release, wish, api.namespace)
    commands = [Command.INSTALL, Command.STATUS, Command.INVENTORY]
    findings += _allowed("access", lambda: check_install_rights(api, groups, commands))
    return findings


def _allowed(check: str, run: Callable[[], list[Finding]], denied_is: Severity = Severity.WARNING) -> list[Finding]:
    try:
        return run()
    except DeniedError as denied:
        return [Finding(check=check, severity=denied_is, seen=denied.problem, remedy=denied.remedy)]


def _release(api: ClusterApi, name: str, findings: list[Finding]) -> ReleaseObjects | None:
    try:
        release = read_release(api, name, with_events=False)
    except DeniedError as denied:
        findings.append(error("release", denied.problem, denied.remedy))
        return None
    if not release.services and not release.pods:
        findings.append(note("release", f"there is no release {name} in namespace {api.namespace} yet"))
        return release
    findings += [warning("release", f"not seen: {text}", "`status` shows less without it") for text in release.missing]
    return release


def _wants(release: ReleaseObjects | None, wish: Examination) -> list[PodWant]:
    if wish.manifests is not None:
        return wants_of_manifests(wish.manifests)
    if release is None:
        return []
    return [want for service in release.services for want in wants_of_service(service)]


def _gpus(api: ClusterApi, wants: Sequence[PodWant]) -> list[Finding]:
    inventory, nodes = read_inventory(api)
    return gpu_findings(nodes, inventory, wants_gpus=wants_gpus(wants))


def _room(
    api: ClusterApi, wants: Sequence[PodWant], release: ReleaseObjects | None, *, only_ray: bool
) -> list[Finding]:
    ranges = api.read(LIMIT_RANGES, namespace=api.namespace)
    quotas = api.read(RESOURCE_QUOTAS, namespace=api.namespace)
    # A RayService speaks of Ray's pods only, so only what these hold already is not asked for again.
    pods = [
        pod
        for pod in (release.pods if release is not None else ())
        if not only_ray or str((pod["metadata"].get("labels") or {}).get(COMPONENT_LABEL, "")).startswith("ray-")
    ]
    held: Counter[str] = Counter()
    for used in used_by_node(pods).values():
        held.update(used)
    held["pods"] = len(pods)
    return [
        *quota_findings(quotas, wants, held, has_default_limits=gives_limits(ranges)),
        *limit_findings(ranges, wants),
    ]


def _namespace(api: ClusterApi) -> list[Finding]:
    try:
        return security_findings(api.get(NAMESPACES, api.namespace, namespace=api.namespace))
    except AbsentError:
        return [
            note(
                "pod security",
                f"namespace {api.namespace} does not exist yet",
                f"kubectl create namespace {api.namespace}, or helm install --create-namespace",
            )
        ]


def _redis(release: ReleaseObjects | None, wish: Examination, namespace: str) -> list[Finding]:
    if wish.redis is not None:
        return [check_redis(wish.redis, "the server of --redis-url", namespace=namespace, in_cluster=wish.in_cluster)]
    config = release.config if release is not None else None
    servers = (
        []
        if config is None
        else [
            ("state", config.redis.state_url, config.redis.state_ca_file),
            ("cache", config.redis.cache_url, config.redis.cache_ca_file),
        ]
    )
    found = [
        check_redis(
            StateServer(url=url, ca_file=ca_file),
            f"the {what} server",
            namespace=namespace,
            in_cluster=wish.in_cluster,
        )
        for what, url, ca_file in servers
        if url
    ]
    return found or [note("redis", "no address of Redis is known", "give one with --redis-url")]
