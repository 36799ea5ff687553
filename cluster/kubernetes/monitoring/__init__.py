"""Grafana dashboards and Prometheus rules that the chart ships, from one description; `make dashboards` writes them.

They are files of the chart as its schema is (cluster/kubernetes/chart), so that their source is beside that one's: it
is linted and typed with the code whose metrics it names, and needs neither the cluster nor the gateway to run.
"""
