"""A static scanner finds nothing in the chart that has no written reason.

Checkov has no severities without its vendor's platform, so every failed check counts as a high one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kubernetes import scanner
from tests.kubernetes.cases import EDGES, OF_EXAMPLES
from tests.kubernetes.conftest import or_skip
from tests.kubernetes.render import Renderer

SCANNED = (*OF_EXAMPLES, *(case for case in EDGES if case.name == "everything"))


@pytest.mark.slow  # the scanner's 96 packages take a minute to install, once
def test_every_finding_has_a_reason_and_every_reason_a_finding(render: Renderer, tmp_path: Path) -> None:
    for case in SCANNED:
        scanner.write(tmp_path, case.name, case.render(render))
    found = or_skip(lambda: scanner.scan(tmp_path))
    reasons = scanner.accepted()
    unexplained = [one for one in found if not any(reason.accepts(one) for reason in reasons)]
    assert unexplained == []
    idle = [reason.check for reason in reasons if not any(reason.accepts(one) for one in found)]
    assert idle == []


@pytest.mark.slow
def test_the_scanner_sees_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b}, spec: {containers: [{name: c, image: d, "
        "securityContext: {privileged: true}}]}}"
    )
    assert "CKV_K8S_16" in {one.check for one in or_skip(lambda: scanner.scan(tmp_path))}  # privileged container


def test_every_reason_is_written() -> None:
    reasons = scanner.accepted()
    assert all(len(one.reason.split()) >= 5 for one in reasons)
    assert len({one.check for one in reasons}) == len(reasons)
