"""The page of single replicas: their engines, whether they are read, and the Ray nodes and GPUs they run on.

What must not live here: pools (pool.py), the rows of Ray and GPUs (platform.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.dashboards.platform import GPUS, RAY
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit, p95, rate
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS

OF_REPLICA = "{{pool}} {{replica}}"
READING = Row(
    title="Reading",
    panels=(
        Panel(
            title="Metrics read",
            description="1 where the last scrape worked, through a gateway. Alert LongreachReplicaNotScraped.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            width=12,
            alarm=1,
            alarm_below=True,
            texts={0: "down", 1: "up"},
            queries=[
                Query('up{$R, job="longreach-replicas"}', "{{pool}} {{replica}}"),
            ],
        ),
        Panel(
            title="Time to read a replica's metrics",
            description="A busy engine answers late; after 8 s the gateway gives up.",
            unit=Unit.SECONDS,
            width=12,
            alarm=8,
            queries=[Query('scrape_duration_seconds{$R, job="longreach-replicas"}', "{{pool}} {{replica}}")],
        ),
    ),
)
ENGINE = Row(
    title="Engine",
    panels=(
        Panel(
            title="Running and waiting",
            description="Sequences in each replica's batch, and those queued in its engine.",
            unit=Unit.COUNT,
            queries=[
                Query("sum by (pool, replica) (vllm:num_requests_running{$R})", "{{pool}} {{replica}} running"),
                Query("sum by (pool, replica) (vllm:num_requests_waiting{$R})", "{{pool}} {{replica}} waiting"),
            ],
        ),
        Panel(
            title="KV cache in use",
            description="Share of each replica's KV cache blocks. A full one is good use, until engines preempt.",
            unit=Unit.RATIO,
            alarm=THRESHOLDS["kv_use_ratio"].value,
            queries=[Query("max by (pool, replica) (vllm:kv_cache_usage_perc{$R})", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Preemptions",
            description="Sequences thrown out of a full KV cache, to be computed again. Alert LongreachKvCacheFull: "
            "over 0.1/s in a pool with a full cache.",
            unit=Unit.PER_S,
            queries=[rate("vllm:num_preemptions_total", "pool, replica", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Time to first token, p95",
            description="In the engine, its own queue included and the gateway's not. One replica that stands out has "
            "longer prompts, a colder cache, or slower hardware. Alert LongreachTtftHigh judges its pool.",
            unit=Unit.SECONDS,
            queries=[p95("vllm:time_to_first_token_seconds", "pool, replica", OF_REPLICA, "$R")],
        ),
        Panel(
            title="Between two tokens, p95",
            description="Inter-token latency of streams in the engine. It rises with the batch and with long prefills.",
            unit=Unit.SECONDS,
            queries=[p95("vllm:inter_token_latency_seconds", "pool, replica", OF_REPLICA, "$R")],
        ),
        Panel(
            title="Queued in the engine, p95",
            description="Between a request's arrival in the engine and its first step there.",
            unit=Unit.SECONDS,
            queries=[p95("vllm:request_queue_time_seconds", "pool, replica", OF_REPLICA, "$R")],
        ),
        Panel(
            title="Prompt tokens",
            description="Computed and cached ones together, as the engine counts them.",
            unit=Unit.TOKENS_PER_S,
            queries=[rate("vllm:prompt_tokens_total", "pool, replica", OF_REPLICA, "$R")],
        ),
        Panel(
            title="Output tokens",
            description="Tokens generated, as the engine counts them.",
            unit=Unit.TOKENS_PER_S,
            queries=[rate("vllm:generation_tokens_total", "pool, replica", OF_REPLICA, "$R")],
        ),
        Panel(
            title="Memory of the API process",
            description="Resident memory of the replica's own process; engine and workers are others.",
            unit=Unit.BYTES,
            queries=[Query("max by (pool, replica) (process_resident_memory_bytes{$R})", OF_REPLICA)],
        ),
    ),
)
REPLICA = Dashboard(
    uid="longreach-replica",
    title="Longreach / Replica",
    description="What each replica of one release does, and what it runs on.",
    home="longreach_endpoints",
    choices=(choices.POOLS, choices.REPLICAS),
    rows=(READING, ENGINE, RAY, GPUS),
)
