"""`python -m cluster.kubernetes.monitoring`: write the chart's dashboards and rules."""

from __future__ import annotations

from cluster.kubernetes.monitoring.generate import DASHBOARD_FOLDER, generated

for path in set(DASHBOARD_FOLDER.glob("*.json")) - generated().keys():
    path.unlink()  # the chart ships whatever lies there
for path, text in generated().items():
    path.write_text(text, encoding="utf-8")
