"""Whether the namespace's ResourceQuotas and LimitRanges let the release in.

What must not live here: what the release wants (wants.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.kubernetes.doctor.finding import Finding, error, fine, note, warning
from cluster.kubernetes.doctor.wants import PodWant, total
from cluster.kubernetes.quantity import milli, whole

QUOTA_REMEDY = "have the quota raised, or lower replicas.max, worker resources or the number of pools"
BOUNDED = ("cpu", "memory")
"""Of what a LimitRange bounds, the part that pods have."""


def quota_findings(
    quotas: Sequence[Mapping[str, Any]],
    wants: Sequence[PodWant],
    held: Counter[str],
    *,
    has_default_limits: bool,
) -> list[Finding]:
    """One finding a quota that matters.

    Args:
        quotas: of the namespace.
        wants: of the release; empty where it is not installed and no values were given.
        held: what the release's own pods take of the quotas already.
        has_default_limits: whether a LimitRange gives containers the limits they leave out.
    """
    if not quotas:
        return [fine("quota", "the namespace has no ResourceQuota")]
    findings = []
    for quota in quotas:
        name = quota["metadata"]["name"]
        if (quota.get("spec") or {}).get("scopes") or (quota.get("spec") or {}).get("scopeSelector"):
            findings.append(note("quota", f"ResourceQuota {name} covers some pods only: compare it yourself"))
            continue
        status = quota.get("status") or {}
        hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
        found = _over(name, hard, status.get("used") or {}, wants, held)
        if not has_default_limits:
            found += _unlimited(name, hard, wants)
        if not wants:
            found.append(
                note(
                    "quota",
                    f"ResourceQuota {name} bounds {', '.join(sorted(hard))}; nothing to compare it with",
                    "give it what helm would install: helm template … > FILE, --manifests FILE",
                )
            )
        findings += found or [fine("quota", f"ResourceQuota {name} has room for the release")]
    return findings


def limit_findings(ranges: Iterable[Mapping[str, Any]], wants: Sequence[PodWant]) -> list[Finding]:
    """Containers and pods that a LimitRange would refuse."""
    findings = []
    names = []
    for entry in ranges:
        names.append(entry["metadata"]["name"])
        for limit in (entry.get("spec") or {}).get("limits") or ():
            findings += [finding for want in wants for finding in _outside(names[-1], limit, want)]
    if not names:
        return [fine("limits", "the namespace has no LimitRange")]
    return findings or [fine("limits", f"LimitRange {', '.join(names)} admits the release's pods")]


def gives_limits(ranges: Iterable[Mapping[str, Any]], resource: str = "cpu") -> bool:
    """Whether a LimitRange sets a default limit for containers."""
    return any(
        resource in (limit.get("default") or {})
        for entry in ranges
        for limit in (entry.get("spec") or {}).get("limits") or ()
        if limit.get("type") == "Container"
    )


def _over(
    name: str, hard: Mapping[str, Any], used: Mapping[str, Any], wants: Sequence[PodWant], held: Counter[str]
) -> list[Finding]:
    findings = []
    least, most = total(wants, most=False), total(wants, most=True)
    for key in sorted(hard):
        resource = key.removeprefix("requests.")
        if key.startswith("limits.") or resource not in most:
            continue
        read = milli if resource == "cpu" else whole
        room = read(hard[key]) - max(0, read(used.get(key)) - held[resource])
        if least[resource] > room:
            tell, what = error, f"needs {_shown(resource, least[resource])} at least"
        elif most[resource] > room:
            tell, what = warning, f"may grow to {_shown(resource, most[resource])}"
        else:
            continue
        seen = f"the release {what} of {resource}, ResourceQuota {name} leaves {_shown(resource, max(0, room))}"
        findings.append(tell("quota", seen, QUOTA_REMEDY))
    return findings


def _unlimited(name: str, hard: Mapping[str, Any], wants: Sequence[PodWant]) -> list[Finding]:
    """A quota on limits refuses every pod whose containers have none."""
    findings = []
    for resource in BOUNDED:
        bare = [
            want.name
            for want in wants
            if want.most
            and any(resource not in ((c.get("resources") or {}).get("limits") or {}) for c in want.containers)
        ]
        if f"limits.{resource}" in hard and bare:
            findings.append(
                error(
                    "quota",
                    f"ResourceQuota {name} bounds limits.{resource}, and these set no {resource} limit: "
                    f"{', '.join(bare)}",
                    f"set resources.limits.{resource} there, or add a LimitRange with a default",
                )
            )
    return findings


def _outside(name: str, limit: Mapping[str, Any], want: PodWant) -> list[Finding]:
    kind = limit.get("type")
    if kind == "Pod":
        sizes = [(want.name, dict(want.requests))]
    elif kind == "Container":
        sizes = [(f"{want.name}, container {c.get('name', '')}", _asked(c)) for c in want.containers]
    else:
        return []
    findings = []
    for resource in BOUNDED:
        read = milli if resource == "cpu" else whole
        for who, asked in sizes:
            value = asked.get(resource)
            high, low = (limit.get("max") or {}).get(resource), (limit.get("min") or {}).get(resource)
            if value is None:
                continue
            if high is not None and value > read(high):
                bound = f"at most {high}"
            elif low is not None and value < read(low):
                bound = f"at least {low}"
            else:
                continue
            seen = f"{who} asks for {_shown(resource, value)} of {resource}, LimitRange {name} allows {bound}"
            findings.append(error("limits", seen, "have the LimitRange changed, or the resources in the values"))
    return findings


def _asked(container: Mapping[str, Any]) -> dict[str, int]:
    """The larger of request and limit: both have to be inside."""
    resources = container.get("resources") or {}
    found: dict[str, int] = {}
    for part in ("requests", "limits"):
        for resource, text in (resources.get(part) or {}).items():
            value = milli(text) if resource == "cpu" else whole(text)
            found[resource] = max(found.get(resource, 0), value)
    return found


def _shown(resource: str, value: int) -> str:
    if resource == "cpu":
        return f"{value / 1000:g}"
    return f"{value / 2**30:.1f}Gi" if resource == "memory" else str(value)
