"""Alerts on autoscaling.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

SILENT = Alert(
    name="LongreachAutoscalerSilent",
    why=(
        "Serve's controller decides several times a second and tells each change at once, the rest every second. A new "
        "controller is there within half a minute, and its first decisions need a minute of demand."
    ),
    expr="""
    max by (namespace, release, pool) (longreach_autoscale_age_seconds{$S})
      > $autoscaler_age_s
    """,
    lasts="5m",
    severity=Severity.WARNING,
    summary="Nobody decides how many replicas there are",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: the last decision is {{ $value | "
        "humanizeDuration }} old. Replicas go on serving; none is added for more load, nor let go."
    ),
)
AT_MAX = Alert(
    name="LongreachAutoscaleAtMax",
    why="A peak may touch the limit. Half an hour of it means that the limit, and not the load, decides.",
    expr="""
    max by (namespace, release, pool) (longreach_autoscale_replicas{$S, kind="needed_ahead"})
    > max by (namespace, release, pool) (longreach_autoscale_replicas{$S, kind="max"})
    """,
    lasts="30m",
    severity=Severity.WARNING,
    summary="A pool needs more replicas than it may have",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: the load needs {{ $value | humanize }} "
        "replicas, more than replicas.max allows. Requests wait longer, and may be refused."
    ),
)
AUTOSCALING = Group(name="longreach-autoscaling", rules=(SILENT, AT_MAX))
