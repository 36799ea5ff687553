"""Storage classes: a default for Redis and the Ray head, and one that many nodes can mount for the model cache.

What must not live here: claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.kubernetes.doctor.finding import Finding, fine, note, warning

DEFAULT_ANNOTATION = "storageclass.kubernetes.io/is-default-class"
SHARED_DRIVERS = (
    "efs.csi.aws.com",
    "fsx.csi.aws.com",
    "file.csi.azure.com",
    "filestore.csi.storage.gke.io",
    "parallelstore.csi.storage.gke.io",
    "nfs.csi.k8s.io",
    "cephfs.csi.ceph.com",
    "driver.longhorn.io",
    "csi.juicefs.com",
    "beegfs.csi.netapp.com",
    "weka",
)
"""Drivers (or the end of their name) that can give ReadWriteMany. The API does not say it: a hint, no promise."""


def storage_findings(classes: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The default class, and the classes that look shareable."""
    defaults = [
        entry["metadata"]["name"]
        for entry in classes
        if (entry["metadata"].get("annotations") or {}).get(DEFAULT_ANNOTATION) == "true"
    ]
    shared = sorted(
        entry["metadata"]["name"]
        for entry in classes
        if any(str(entry.get("provisioner", "")).endswith(driver) for driver in SHARED_DRIVERS)
    )
    findings = []
    if not classes:
        findings.append(
            warning("storage", "there is no StorageClass", "install a CSI driver, or use existing claims and hostPath")
        )
    elif not defaults:
        findings.append(
            warning(
                "storage",
                "no StorageClass is the default: claims that name none stay pending",
                f"name one in the values, or annotate one with {DEFAULT_ANNOTATION}=true "
                f"(there are {', '.join(sorted(entry['metadata']['name'] for entry in classes))})",
            )
        )
    else:
        findings.append(fine("storage", f"the default StorageClass is {', '.join(defaults)}"))
    if shared:
        findings.append(
            fine("storage", f"probably ReadWriteMany, for a model cache shared by nodes: {', '.join(shared)}")
        )
    elif classes:
        findings.append(
            note(
                "storage",
                "no StorageClass is known to give ReadWriteMany; the API does not say what a class can do",
                "without one, the model cache's claim stays pending: NFS and CephFS classes give it; else set "
                "modelCache.accessMode: ReadWriteOnce for one worker, or modelCache.type: emptyDir for a copy a worker",
            )
        )
    return findings
