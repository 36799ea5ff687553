"""The files that the chart ships, made from the descriptions beside this.

What must not live here: writing them (__main__.py).
"""

from __future__ import annotations

from pathlib import Path

from cluster.kubernetes.chart.generate import CHART
from cluster.kubernetes.monitoring.dashboards import DASHBOARDS
from cluster.kubernetes.monitoring.rules import GROUPS
from cluster.kubernetes.monitoring.rules.build import rules_text

DASHBOARD_FOLDER = CHART / "dashboards"
RULES = CHART / "rules" / "longreach.yaml"


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    pages = {DASHBOARD_FOLDER / name: page.json() for name, page in DASHBOARDS.items()}
    return {**pages, RULES: rules_text(GROUPS)}
