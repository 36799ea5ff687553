"""`python -m cluster.kubernetes.chart`: write the chart's generated files."""

from __future__ import annotations

from cluster.kubernetes.chart.generate import generated

for path, text in generated().items():
    path.write_text(text, encoding="utf-8")
