"""The dashboard of what replicas do, with the rows of engines.

What must not live here: the rows of caches (prefix.py) and of what engines run on (platform.py).
"""

from __future__ import annotations

from tests.kubernetes.dashboards.build import Dashboard, Kind, Panel, Query, Row, Unit, quantiles, rate
from tests.kubernetes.dashboards.platform import GPUS, RAY
from tests.kubernetes.dashboards.prefix import PREFIX

NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Ready replicas",
            description="Of each pool, as the gateway sees them that sees most.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=6,
            alarm=1,
            alarm_below=True,
            queries=[Query('max by (pool) (longreach_endpoints{$P, state="ready"})', "{{pool}}")],
        ),
        Panel(
            title="Running",
            description="Sequences in the engines' batches.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=6,
            queries=[Query("sum by (pool) (vllm:num_requests_running{$P})", "{{pool}}")],
        ),
        Panel(
            title="Waiting",
            description="Requests queued inside engines, after the gateway gave them a slot.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=6,
            queries=[Query("sum by (pool) (vllm:num_requests_waiting{$P})", "{{pool}}")],
        ),
        Panel(
            title="KV cache in use",
            description="The highest of each pool's replicas.",
            unit=Unit.RATIO,
            kind=Kind.NUMBER,
            width=6,
            alarm=0.9,
            queries=[Query("max by (pool) (vllm:kv_cache_usage_perc{$P})", "{{pool}}")],
        ),
    ),
)
ENGINES = Row(
    title="Engines",
    panels=(
        Panel(
            title="Running and waiting",
            description="Sequences in each replica's batch, and those queued in its engine.",
            unit=Unit.COUNT,
            queries=[
                Query("sum by (pool, replica) (vllm:num_requests_running{$P})", "{{pool}} {{replica}} running"),
                Query("sum by (pool, replica) (vllm:num_requests_waiting{$P})", "{{pool}} {{replica}} waiting"),
            ],
        ),
        Panel(
            title="KV cache in use",
            description="Share of each replica's KV cache blocks. A full one is good use, until engines preempt.",
            unit=Unit.RATIO,
            alarm=0.9,
            queries=[Query("max by (pool, replica) (vllm:kv_cache_usage_perc{$P})", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Preemptions",
            description="Sequences thrown out of a full KV cache, to be computed again. Alert LongreachKvCacheFull: "
            "over 0.1/s with a full cache.",
            unit=Unit.PER_S,
            queries=[rate("vllm:num_preemptions_total", "pool, replica", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Time to first token",
            description="In the engine, its own queue included and the gateway's not. Alert LongreachTtftHigh: p95 "
            "over 5 s and a second for each 2,000 prompt tokens.",
            unit=Unit.SECONDS,
            queries=quantiles("vllm:time_to_first_token_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Between two tokens",
            description="Inter-token latency of streams in the engine. It rises with the batch and with long prefills.",
            unit=Unit.SECONDS,
            queries=quantiles("vllm:inter_token_latency_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Queued in the engine",
            description="Between a request's arrival in the engine and its first step there.",
            unit=Unit.SECONDS,
            queries=quantiles("vllm:request_queue_time_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Prefill",
            description="Time the engine takes to compute a request's prompt.",
            unit=Unit.SECONDS,
            queries=quantiles("vllm:request_prefill_time_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Tokens computed",
            description="Prompt and output tokens, as engines count them; cached prompt tokens are in.",
            unit=Unit.TOKENS_PER_S,
            queries=[
                rate("vllm:prompt_tokens_total", "pool", "{{pool}} prompt"),
                rate("vllm:generation_tokens_total", "pool", "{{pool}} output"),
            ],
        ),
        Panel(
            title="How requests finish",
            description="stop: the model ended; length: the limit; abort: the client or its deadline; error: "
            "the engine.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("vllm:request_success_total", "pool, finished_reason", "{{pool}} {{finished_reason}}")],
        ),
    ),
)
SCALING = Row(
    title="Autoscaling",
    panels=(
        Panel(
            title="Replicas decided and ready",
            description="Of pools whose number follows the load (docs/autoscaling.md). Ready stays below decided while "
            "replicas start.",
            unit=Unit.COUNT,
            queries=[
                Query(
                    'max by (pool, kind) (longreach_autoscale_replicas{$P, kind=~"decided|ready"})', "{{pool}} {{kind}}"
                )
            ],
        ),
        Panel(
            title="Replicas needed",
            description="By the work at hand, and when a replica ordered now would serve; fractions.",
            unit=Unit.COUNT,
            queries=[
                Query(
                    'max by (pool, kind) (longreach_autoscale_replicas{$P, kind=~"needed_now|needed_ahead"})',
                    "{{pool}} {{kind}}",
                )
            ],
        ),
        Panel(
            title="Held requests",
            description="Requests that wait in gateways, by the smallest pool that holds them, empty ones too.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (pool) (longreach_held_requests{$P})", "{{pool}}")],
        ),
        Panel(
            title="Boundary",
            description="Up to which length requests go to the pool first, where that follows the traffic "
            "(gateway.routing.boundary); longer ones go to the next larger pool.",
            unit=Unit.TOKENS,
            queries=[Query("max by (pool) (longreach_boundary_tokens{$P})", "{{pool}}")],
        ),
        Panel(
            title="Start of a replica",
            description="From its order to its first request; the median of the last five.",
            unit=Unit.SECONDS,
            queries=[Query("max by (pool) (longreach_autoscale_startup_seconds{$P})", "{{pool}}")],
        ),
    ),
)
POOLS = Dashboard(
    uid="longreach-pools",
    title="Longreach / Pools",
    description="What the replicas of one release do, and what they run on.",
    home="longreach_endpoints",
    pools="longreach_endpoints",
    rows=(NOW, SCALING, ENGINES, PREFIX, RAY, GPUS),
)
