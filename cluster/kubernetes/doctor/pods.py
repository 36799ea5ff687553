"""Pods of the release whose image cannot be pulled.

What must not live here: everything else about pods (`status` shows it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.kubernetes.doctor.finding import Finding, error, fine, note

PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
TEXT_MAX = 300
"""A registry's own message can be a page; its beginning says what is wrong."""


def pull_findings(pods: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """One finding an image; a note where there are no pods yet."""
    found: dict[str, Finding] = {}
    count = 0
    for pod in pods:
        count += 1
        status = pod.get("status") or {}
        secrets = (pod.get("spec") or {}).get("imagePullSecrets") or ()
        for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in PULL_REASONS:
                image = str(container.get("image", ""))
                found.setdefault(image, _finding(pod, image, waiting, has_secrets=bool(secrets)))
    if not count:
        return [note("images", "the release has no pods yet, so no image was pulled")]
    return [*found.values()] or [fine("images", f"no image is missing in {count} pods")]


def _finding(pod: Mapping[str, Any], image: str, waiting: Mapping[str, Any], *, has_secrets: bool) -> Finding:
    name = pod["metadata"]["name"]
    said = " ".join(str(waiting.get("message", "")).split())[:TEXT_MAX]
    if waiting.get("reason") == "InvalidImageName":
        remedy = "correct image.engine, image.gateway or image.redis in the values"
    elif has_secrets:
        remedy = (
            "check repository and tag, that the pod's imagePullSecrets exist in this namespace and are for this "
            "registry, and that nodes reach it (air-gapped: a mirror)"
        )
    else:
        remedy = (
            "check repository and tag; the pod has no imagePullSecrets: a private registry needs one (kubectl create "
            "secret docker-registry NAME …, then image.pullSecrets)"
        )
    return error("images", f"pod {name} cannot pull {image} ({waiting.get('reason')}): {said}", remedy)
