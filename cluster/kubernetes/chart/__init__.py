"""The Helm chart's values as types, and what is generated from them: `python -m cluster.kubernetes.chart`."""
