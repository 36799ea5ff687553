"""Alerts on replicas and Ray.

What must not live here: thresholds (thresholds.py), how they become YAML (build.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Alert, Group, Severity

POOL_WITHOUT_REPLICA = Alert(
    name="LongreachPoolWithoutReplica",
    why=(
        "Replacing a replica takes a minute or two on a node that has the weights. A pool whose "
        "replicas.min is 0 has none on purpose while nobody asks; who decides that tells it every second,"
        " so an older word counts no more."
    ),
    expr="""
    max by (namespace, release, pool) (longreach_endpoints{$S, state="ready"})
      == 0
    unless (
        max by (namespace, release, pool) (longreach_autoscale_replicas{$S, kind="decided"})
          == 0
      and
        max by (namespace, release, pool) (longreach_autoscale_age_seconds{$S})
          < 60
    )
    """,
    lasts="3m",
    severity=Severity.CRITICAL,
    summary="A pool has no ready replica",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }} has had no ready replica "
        "for 3 minutes. What no larger pool can hold gets 503."
    ),
)
ENDPOINTS_SUSPECT = Alert(
    name="LongreachEndpointsSuspect",
    why=("A suspicion lasts 2 s; 10 minutes of them are renewed ones. Below a third, the others carry the load."),
    expr="""
    max by (namespace, release, pool) (longreach_endpoints{$S, state="suspect"})
    / (
        max by (namespace, release, pool) (longreach_endpoints{$S, state="suspect"})
        + max by (namespace, release, pool) (longreach_endpoints{$S, state="ready"})
    )
      > $suspect_ratio
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Gateways avoid a part of the replicas",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: {{ $value | "
        "humanizePercentage }} of the endpoints are suspect: they fail, or their breaker is open."
    ),
)
REPLICAS_FLAPPING = Alert(
    name="LongreachReplicasFlapping",
    why=(
        "Autoscaling from one replica to five and back makes 8 changes; a replica that dies and heals "
        "every three minutes makes 20."
    ),
    expr="""
    max by (namespace, release, pool) (changes(longreach_endpoints{$S, state="ready"}[30m]))
      > $flapping_changes
    """,
    lasts="5m",
    severity=Severity.WARNING,
    summary="Replicas come and go",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: the number of ready "
        "replicas changed {{ $value }} times in half an hour."
    ),
)
SERVE_UNHEALTHY = Alert(
    name="LongreachServeUnhealthy",
    why=(
        "Serve calls an application unhealthy while it replaces a replica; 10 minutes is more than any "
        "start of an engine takes."
    ),
    expr="""
    min by (namespace, release, application) (
      ray_serve_application_status{$S} == 1 or ray_serve_application_status{$S} == 2
    )
      > 0
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="Ray Serve cannot keep an application healthy",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: Serve application {{ $labels.application }} has "
        "status {{ $value }} (1: deploy failed, 2: unhealthy)."
    ),
)
RAY_HEAD_ABSENT = Alert(
    name="LongreachRayHeadAbsent",
    why=(
        "With GCS fault tolerance a head is back within a minute or two. Only a head seen in the last six"
        " hours counts, so that a release that was removed, or does not scrape Ray, fires nothing."
    ),
    expr="""
    max by (namespace, release) (max_over_time(up{job="longreach-ray", component="ray-head", $S}[6h]))
    unless max by (namespace, release) (up{job="longreach-ray", component="ray-head", $S} == 1)
    """,
    lasts="5m",
    severity=Severity.CRITICAL,
    summary="Ray's head is away",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }}: Ray's head has not been scraped for 5 minutes. "
        "Replicas go on serving; nothing heals, scales or deploys."
    ),
)
REPLICA_NOT_SCRAPED = Alert(
    name="LongreachReplicaNotScraped",
    why=(
        "A replica that is being replaced loses its lease within 4 s, and its target with the next look, "
        "a minute later."
    ),
    expr="""
    up{job="longreach-replicas", $S}
      == 0
    """,
    lasts="10m",
    severity=Severity.WARNING,
    summary="A replica's metrics cannot be read",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: replica {{ "
        "$labels.replica }} holds a lease and its metrics cannot be read."
    ),
)
KV_CACHE_FULL = Alert(
    name="LongreachKvCacheFull",
    why=("A full cache alone is good use. Together with 6 preemptions a minute it means that work is done twice."),
    expr="""
    avg by (namespace, release, pool) (vllm:kv_cache_usage_perc{$S})
      > $kv_use_ratio
    and
    sum by (namespace, release, pool) (rate(vllm:num_preemptions_total{$S}[10m]))
      > $preemptions_per_s
    """,
    lasts="15m",
    severity=Severity.WARNING,
    summary="KV cache is full and engines preempt",
    description=(
        "{{ $labels.namespace }}/{{ $labels.release }} pool {{ $labels.pool }}: {{ $value | "
        "humanizePercentage }} of the KV cache is in use, and sequences are thrown out and computed "
        "again."
    ),
)
REPLICAS = Group(
    name="longreach-replicas",
    rules=(
        POOL_WITHOUT_REPLICA,
        ENDPOINTS_SUSPECT,
        REPLICAS_FLAPPING,
        SERVE_UNHEALTHY,
        RAY_HEAD_ABSENT,
        REPLICA_NOT_SCRAPED,
        KV_CACHE_FULL,
    ),
)
