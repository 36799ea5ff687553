"""Alerts on the state store and usage.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

DIRECTORY_STALE = Alert(
    name="LongreachDirectoryStale",
    why=(
        "Leases are read four times a second and live 4 s. A failover of Redis takes 10 to 30 s. -1 "
        "(never read) shows as a pool without a replica."
    ),
    expr="""
    max by (namespace, release, pod) (longreach_directory_age_seconds{$S})
      > $directory_age_s
    """,
    lasts="1m",
    severity=Severity.CRITICAL,
    summary="A gateway cannot read the state store",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: gateway {{ $labels.pod }} last read the leases {{"
        " $value | humanizeDuration }} ago. It serves from what it knew; new replicas are not found, "
        "quotas count locally."
    ),
)
USAGE_DROPPED = Alert(
    name="LongreachUsageDropped",
    why="Any: what is dropped is never billed.",
    expr="""
    sum by (namespace, release) (increase(longreach_usage_dropped_records_total{$S}[15m]))
      > 0
    """,
    lasts="0m",
    severity=Severity.CRITICAL,
    summary="Usage records are lost",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: some {{ $value | humanize }} answered requests "
        "are missing in the usage totals."
    ),
)
USAGE_PENDING = Alert(
    name="LongreachUsagePending",
    why="The journal is emptied every second. 16 MiB is a quarter of what a worker keeps.",
    expr="""
    max by (namespace, release, pod) (longreach_usage_pending_bytes{$S})
      > $usage_pending_bytes
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Usage waits on disk",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: gateway {{ $labels.pod }} has {{ $value | "
        "humanize1024 }}B of usage that is not in the totals. Over 64 MiB a worker it is lost."
    ),
)
STATE = Group(
    name="longreach-state",
    rules=(
        DIRECTORY_STALE,
        USAGE_DROPPED,
        USAGE_PENDING,
    ),
)
