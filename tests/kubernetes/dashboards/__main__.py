"""Writes the dashboards into the chart: `python -m tests.kubernetes.dashboards`, after a change here."""

from __future__ import annotations

from pathlib import Path

from tests.kubernetes.dashboards.gateway import GATEWAY
from tests.kubernetes.dashboards.pools import POOLS

FOLDER = Path(__file__).parents[3] / "deploy" / "helm" / "longreach" / "dashboards"
FILES = {"gateway.json": GATEWAY, "pools.json": POOLS}

if __name__ == "__main__":
    for name, dashboard in FILES.items():
        (FOLDER / name).write_text(dashboard.json(), encoding="utf-8")
