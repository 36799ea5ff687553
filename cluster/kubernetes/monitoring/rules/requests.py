"""Alerts on requests that fail.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

ERROR_BUDGET_FAST = Alert(
    name="LongreachErrorBudgetFast",
    why=(
        "14.4 times the budget's rate uses 2% of a month's budget in an hour (multi-window burn rate); "
        "the 5 minutes end the alert soon after the fault. 20 requests: below that one failure is not a "
        "trend. A tenant over its quota is not counted."
    ),
    expr="""
    (
      longreach:requests_bad:ratio_rate1h{$S}
        > 14.4 *
          $error_budget_ratio
    )
    and
    (
      longreach:requests_bad:ratio_rate5m{$S}
        > 14.4 *
          $error_budget_ratio
    )
    and
    (
      sum by (namespace, release) (increase(longreach_requests_total{$S}[1h]))
        > $error_budget_requests
    )
    """,
    lasts="2m",
    severity=Severity.CRITICAL,
    summary="Many requests fail",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: {{ $value | humanizePercentage }} of the last "
        "hour's requests failed or broke off. At this rate the month's error budget is gone in two days."
    ),
)
ERROR_BUDGET_SLOW = Alert(
    name="LongreachErrorBudgetSlow",
    why="6 times the budget's rate uses 5% of a month's budget in six hours.",
    expr="""
    (
      longreach:requests_bad:ratio_rate6h{$S}
        > 6 *
          $error_budget_ratio
    )
    and
    (
      longreach:requests_bad:ratio_rate30m{$S}
        > 6 *
          $error_budget_ratio
    )
    and
    (
      sum by (namespace, release) (increase(longreach_requests_total{$S}[6h]))
        > $error_budget_requests
    )
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="Requests fail steadily",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: {{ $value | humanizePercentage }} of the last six"
        " hours' requests failed or broke off. At this rate the month's error budget is gone in five "
        "days."
    ),
)
BROKEN_ANSWERS = Alert(
    name="LongreachBrokenAnswers",
    why=("One replica that dies breaks what it has in flight once; 0.5% for 10 minutes means that they keep dying."),
    expr="""
    sum by (namespace, release, pool) (rate(longreach_broken_answers_total{$S}[10m]))
    / sum by (namespace, release, pool) (rate(longreach_attempts_total{$S, result="answered"}[10m]))
      > $broken_ratio
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Answers break off under way",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: {{ $value | "
        "humanizePercentage }} of the answers broke off after their first byte."
    ),
)
ATTEMPTS_FAILING = Alert(
    name="LongreachAttemptsFailing",
    why=(
        "A dead replica costs a few tries until its lease is gone, 4 s later. 5% for 10 minutes is a "
        "network or a replica that lives and does not answer."
    ),
    expr="""
    sum by (namespace, release, pool) (
      rate(longreach_attempts_total{$S, result=~"connect|reset|timeout"}[10m])
    )
    / sum by (namespace, release, pool) (rate(longreach_attempts_total{$S, result!="full"}[10m]))
      > $attempts_failing_ratio
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Replicas cannot be reached",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: {{ $value | "
        "humanizePercentage }} of the gateway's tries to reach a replica failed. Clients may not notice "
        "yet: the next replica is tried."
    ),
)
REQUESTS = Group(
    name="longreach-requests",
    rules=(
        ERROR_BUDGET_FAST,
        ERROR_BUDGET_SLOW,
        BROKEN_ANSWERS,
        ATTEMPTS_FAILING,
    ),
)
