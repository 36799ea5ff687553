"""Alerts on prefix caches and the Redis tier.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

REDIS_TIER_DOWN = Alert(
    name="LongreachRedisTierDown",
    why="A breaker tries again by itself; half a minute after Redis is back it is closed.",
    expr="""
    max by (namespace, release, pool, replica) (
      longreach_tier_breaker_open{$S}
      or (1 - vllm:redis_tier_up{$S})
    )
      == 1
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="A replica does not reach the cache Redis",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: replica {{ "
        "$labels.replica }} has fetched nothing from Redis for 10 minutes: its breaker is open. Prefixes "
        "are computed instead."
    ),
)
REDIS_TIER_NOT_STORING = Alert(
    name="LongreachRedisTierNotStoring",
    why="A cache with maxmemory and allkeys-lru never refuses.",
    expr="""
    sum by (namespace, release, pool) (
      rate(vllm:redis_tier_dropped_blocks_total{$S, reason="full"}[10m])
      or rate(vllm:redis_tier_blocks_total{$S, result="refused"}[10m])
    )
      > 0
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="The cache Redis refuses blocks",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: Redis refuses {{ $value |"
        " humanize }} KV blocks a second: it is full and may not evict, or its user lacks a command."
    ),
)
REDIS_TIER_BAD_VALUES = Alert(
    name="LongreachRedisTierBadValues",
    why=(
        "Any: somebody else writes to that Redis, or memory or network are broken. The second half sees "
        "the first of a kind, which begins at 1 and never increases from 0."
    ),
    expr="""
    sum by (namespace, release, pool, fault) (increase(vllm:redis_tier_bad_values_total{$S}[1h])) > 0
    or
    sum by (namespace, release, pool, fault) (
      vllm:redis_tier_bad_values_total{$S}
      unless vllm:redis_tier_bad_values_total{$S} offset 1h
    ) > 0
    """,
    lasts="0m",
    severity=Severity.WARNING,
    summary="Values in the cache Redis are damaged",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: {{ $value | humanize }} "
        "values were not what their keys promise ({{ $labels.fault }}). They were deleted and computed "
        "again."
    ),
)
PREDICTION_WRONG = Alert(
    name="LongreachPredictionWrong",
    why=(
        "The promise is one KV block (at most 128 tokens) for 99% of requests; gateways that do not see "
        "each other's requests in flight cost some. 5% means that residency is broken, not late."
    ),
    expr="""
    1 - (
      sum by (namespace, release) (
        rate(longreach_cached_tokens_error_bucket{$S, tier="replica", le="128.0"}[30m])
      )
      - sum by (namespace, release) (
        rate(longreach_cached_tokens_error_bucket{$S, tier="replica", le="-129.0"}[30m])
      )
    )
    / sum by (namespace, release) (
      rate(longreach_cached_tokens_error_bucket{$S, tier="replica", le="+Inf"}[30m])
    )
      > $prediction_ratio
    """,
    lasts="30m",
    severity=Severity.WARNING,
    summary="Routing mispredicts cached tokens",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: for {{ $value | humanizePercentage }} of the "
        "requests the engine found over 128 cached tokens more or fewer than routing expected."
    ),
)
PREFIX = Group(
    name="longreach-prefix",
    rules=(
        REDIS_TIER_DOWN,
        REDIS_TIER_NOT_STORING,
        REDIS_TIER_BAD_VALUES,
        PREDICTION_WRONG,
    ),
)
