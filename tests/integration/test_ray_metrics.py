"""Ray's metrics that dashboards and alerts name, of a real Ray with a Serve application: local clusters tell none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster.sockets import free_port
from tests.kubernetes.metric_sources import RAY_TARGET
from tests.kubernetes.promql import grouped_by, selectors
from tests.metrics_page import expressions

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MONITORS = ROOT / "deploy" / "helm" / "longreach" / "templates" / "monitoring" / "monitors.yaml"
TIMEOUT_S = 300.0
NO_GPU_HERE = {"ray_node_gpus_utilization", "ray_node_gram_used"}
"""What only a node with GPUs tells; names and labels are compared with Ray's source (tests/kubernetes)."""


def used() -> dict[str, set[str]]:
    """Every Ray metric that anything names, with the labels it is matched or grouped by."""
    found: dict[str, set[str]] = {}
    for expr in expressions():
        for selector in selectors(expr):
            if selector.metric.startswith("ray_") and selector.metric not in NO_GPU_HERE:
                labels = selector.labels | grouped_by(expr)
                found.setdefault(selector.metric, set()).update(labels - RAY_TARGET)
    return found


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """The labels of each sample of a real Ray, by its name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="lr-") as folder:  # Ray's sockets want a short path
        done = subprocess.run(
            [sys.executable, "-m", "tests.ray_page", folder, str(free_port()), str(free_port()), *used()],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Serve's own words come before the page.
    text = done.stdout[done.stdout.index("# HELP") :]
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_ray_tells_all_that_dashboards_and_alerts_name(samples: dict[str, set[str]]) -> None:
    wanted = used()
    assert len(wanted) > 8
    assert {metric for metric in wanted if metric not in samples} == set()
    assert {metric: labels - samples[metric] for metric, labels in wanted.items() if labels - samples[metric]} == {}


def test_the_chart_keeps_what_is_named_and_far_from_all(samples: dict[str, set[str]]) -> None:
    """The PodMonitor's relabelings, as Prometheus would apply them."""
    text = MONITORS.read_text(encoding="utf-8")
    kept = re.search(r"^ +- (\{sourceLabels: \[__name__\].*\})$", text, re.MULTILINE)
    assert kept is not None
    rule = yaml.safe_load(kept[1])
    names = {name for name in samples if re.fullmatch(rule["regex"], name)}
    assert used().keys() <= names
    assert len(names) < len(samples) / 2
