"""Alerts on gateways.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

GATEWAY_ABSENT = Alert(
    name="LongreachGatewayAbsent",
    why=(
        "Gateways are several and start in seconds. Only a release that had one within a day counts: one "
        "that was removed fires nothing."
    ),
    expr="""
    max by (namespace, release) (max_over_time(up{job="longreach-gateway", $S}[1d]))
    unless max by (namespace, release) (up{job="longreach-gateway", $S} == 1)
    """,
    lasts="3m",
    severity=Severity.CRITICAL,
    summary="No gateway answers Prometheus",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: no gateway has answered Prometheus for 3 minutes."
        " Clients may get nothing at all."
    ),
)
GATEWAY_DOWN = Alert(
    name="LongreachGatewayDown",
    why=("A pod that ends leaves the list of targets by itself; one that stays and does not answer is ill."),
    expr="""
    up{job="longreach-gateway", $S}
      == 0
    """,
    lasts="5m",
    severity=Severity.WARNING,
    summary="A gateway does not answer Prometheus",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: gateway {{ $labels.pod }} runs and does not "
        "answer at its admin port, or refuses the scraper's key."
    ),
)
GATEWAY = Group(
    name="longreach-gateway",
    rules=(
        GATEWAY_ABSENT,
        GATEWAY_DOWN,
    ),
)
