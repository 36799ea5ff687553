"""Checkov over rendered objects, in packages of its own, and the findings that are accepted with a reason.

It is kept out of .venv because its pins contradict the project's. It does not know a RayService, so it is shown
the Pods that the operator makes of one. What must not live here: reasons (scanner.yaml).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.pods import pods
from tests.kubernetes.render import Rendered
from tests.own_packages import installed

HERE = Path(__file__).parent
LOCK = HERE / "scanner.txt"
ACCEPTED = HERE / "scanner.yaml"
SCAN_LIMIT_S = 300
"""A dozen seconds for 250 objects where nothing else runs."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """One failed check."""

    check: str
    says: str
    resource: str
    """Kind and name, such as Deployment/longreach-gateway."""
    where: str
    """The file of rendered objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a check may fail for some resources."""

    check: str
    resources: str
    """A regular expression for the whole of `Finding.resource`."""
    reason: str

    def accepts(self, finding: Finding) -> bool:
        return self.check == finding.check and re.fullmatch(self.resources, finding.resource) is not None


def accepted() -> list[Reason]:
    """What scanner.yaml says."""
    return [Reason(**one) for one in yaml.safe_load(ACCEPTED.read_text(encoding="utf-8"))]


def write(folder: Path, name: str, rendered: Rendered) -> None:
    """Put what was rendered where the scanner looks."""
    bodies = [one.body for one in rendered]
    for pod in pods(rendered):
        if pod.owner.kind == "RayService":
            metadata: dict[str, Any] = {
                "name": f"{pod.owner.name}-{pod.role.replace(' ', '-')}",
                "namespace": rendered.namespace,
                "labels": pod.labels,
            }
            bodies.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec})
    (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(bodies), encoding="utf-8")


def scan(folder: Path) -> list[Finding]:
    """Every failed check in the files of a folder.

    Raises:
        UnreachableError: the scanner cannot be installed here.
    """
    options = [
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--compact",
        "--quiet",
        "--skip-download",
        "--soft-fail",
    ]
    packages = installed("checkov", LOCK)
    # Without site-packages: only its own packages and the standard library.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "checkov.main", "--directory", str(folder), *options],
        env={
            "PYTHONPATH": str(packages),
            "PATH": os.defpath,
            "HOME": str(folder),
            "LOG_LEVEL": "ERROR",
        },
        capture_output=True,
        text=True,
        timeout=SCAN_LIMIT_S,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0, done.stderr
    assert report["summary"]["passed"] > 0, "nothing was scanned"
    return sorted(_findings(report["results"]["failed_checks"]))


def _findings(failed: Iterable[dict[str, Any]]) -> Iterable[Finding]:
    for one in failed:
        kind, _namespace, name = one["resource"].split(".", 2)
        where = Path(one["file_path"]).stem
        yield Finding(check=one["check_id"], says=one["check_name"], resource=f"{kind}/{name}", where=where)
