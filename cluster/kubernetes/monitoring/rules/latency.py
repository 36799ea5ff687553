"""Alerts on time: first tokens, waiting, decisions.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

TTFT_HIGH = Alert(
    name="LongreachTtftHigh",
    why=(
        "What is too long depends on the prompts: 5 s, and a second for each 2,000 tokens of the 95th "
        "percentile of prompt length. A card that computes fewer than 2,000 prompt tokens a second under "
        "load is too slow for its pool."
    ),
    expr="""
    histogram_quantile(0.95, sum by (namespace, release, pool, le) (
      rate(vllm:time_to_first_token_seconds_bucket{$S}[15m])
    ))
    > (
        $ttft_base_s
        + histogram_quantile(0.95, sum by (namespace, release, pool, le) (
          rate(vllm:request_prompt_tokens_bucket{$S}[15m])
        ))
        /
        $ttft_tokens_per_s
    )
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="First tokens come late",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: one request in twenty "
        "waits more than {{ $value | humanizeDuration }} in the engine for its first token, more than "
        "prompts of this length should take."
    ),
)
QUEUE_WAIT_LONG = Alert(
    name="LongreachQueueWaitLong",
    why=(
        "Half a minute is the default end of waiting (limits.queue_s); 5 s is felt. 15 minutes: "
        "autoscaling had its chance."
    ),
    expr="""
    histogram_quantile(0.95, sum by (namespace, release, pool, le) (
      rate(longreach_admission_wait_seconds_bucket{$S}[10m])
    ))
      > $queue_wait_s
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="Requests wait long for a free slot",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: one request in twenty "
        "waits more than {{ $value | humanizeDuration }} in the gateway."
    ),
)
OVERLOADED = Alert(
    name="LongreachOverloaded",
    why="A burst is refused and tried again; 2% for 10 minutes is a lack of replicas.",
    expr="""
    (
      sum by (namespace, release) (
        rate(longreach_refused_total{$S, reason=~"overloaded|gateway_full"}[10m])
      )
      / sum by (namespace, release) (rate(longreach_requests_total{$S}[10m]))
    )
      > $overload_ratio
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Requests are refused for lack of capacity",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: {{ $value | humanizePercentage }} of the requests"
        " get 429 because every replica is at capacity."
    ),
)
ROUTING_SLOW = Alert(
    name="LongreachRoutingSlow",
    why=("Tens of microseconds are normal. Over 5 ms other streams stutter (services/gateway/metric_specs.py)."),
    expr="""
    histogram_quantile(0.99, sum by (namespace, release, le) (
      rate(longreach_decision_seconds_bucket{$S}[10m])
    ))
      > $decision_s
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="Routing decisions are slow",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: one decision in a hundred takes more than {{ "
        "$value | humanizeDuration }} of the gateway's only thread; all streams wait meanwhile."
    ),
)
LATENCY = Group(
    name="longreach-latency",
    rules=(
        TTFT_HIGH,
        QUEUE_WAIT_LONG,
        OVERLOADED,
        ROUTING_SLOW,
    ),
)
