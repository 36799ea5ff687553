"""The whole fault suite and a short soak, as anybody runs them: what docs/reliability.md promises, held."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_harness import longreach

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(5400)]

LIMIT_S = 5_000
SOAK_S = 300
MAY_GROW = {"processes": 4, "shared memory files": 8, "gateway: descriptors": 64, "redis: descriptors": 32}
"""In five minutes connections that are kept still become more. What leaks does so for each of 500 clients that
vanish, or for each replica that dies."""


def suite(folder: Path, *arguments: str) -> dict[str, Any]:
    file = folder / "report.json"
    environment = {**os.environ, "LONGREACH_STATE": str(folder / "state")}
    done = longreach("chaos", *arguments, "--json", str(file), env=environment, timeout_s=LIMIT_S)
    assert file.exists(), done.stderr[-2000:]
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    print(done.stdout)  # noqa: T201 - the figures are the point
    return report


def test_every_fault_costs_nothing_that_was_promised(tmp_path: Path) -> None:
    rows = suite(tmp_path, "run", "all")["rows"]
    made = [row for row in rows if not row["skipped"]]
    assert len(made) >= 14
    assert [row for row in made if not row["is_clean"]] == []


def test_nothing_is_left_behind_by_faults(tmp_path: Path) -> None:
    report = suite(tmp_path, "soak", "--duration", str(SOAK_S))
    assert report["rows"][0]["is_clean"], report["rows"][0]
    for row in report["growth"]:
        if row["value"] in MAY_GROW:
            assert row["last"] <= row["first"] + MAY_GROW[row["value"]], row
