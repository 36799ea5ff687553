"""The page of one pool: what its clients get, and what its engines do together.

What must not live here: single replicas and what they run on (replica.py), how many there are (autoscaling.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit, quantiles, rate
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS

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
            alarm=THRESHOLDS["kv_use_ratio"].value,
            queries=[Query("max by (pool) (vllm:kv_cache_usage_perc{$P})", "{{pool}}")],
        ),
    ),
)
CLIENTS = Row(
    title="What its clients get",
    panels=(
        Panel(
            title="Requests by outcome",
            description="ok; refused: a 4xx; unavailable: a 5xx or 429; broken: the answer broke off; expired: the "
            "deadline passed; client_gone: the client left.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_requests_total", "outcome", "{{outcome}}")],
        ),
        Panel(
            title="Time to first byte",
            description="Streams: time to first token, waiting in the gateway included. Other answers: the whole time.",
            unit=Unit.SECONDS,
            queries=quantiles("longreach_first_byte_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Whole request",
            description="From a request's last byte in to its answer's last byte out.",
            unit=Unit.SECONDS,
            queries=quantiles("longreach_request_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Prompt length",
            description="As gateways counted or estimated it; shows where pool boundaries could lie.",
            unit=Unit.TOKENS,
            queries=quantiles("longreach_prompt_tokens", "pool", "{{pool}}"),
        ),
        Panel(
            title="Wait for a slot",
            description="How long those waited that got one. Alert LongreachQueueWaitLong: p95 over the line.",
            unit=Unit.SECONDS,
            alarm=THRESHOLDS["queue_wait_s"].value,
            queries=quantiles("longreach_admission_wait_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Held requests",
            description="Requests that wait in gateways, by the smallest pool that holds them, empty ones too.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (pool) (longreach_held_requests{$P})", "{{pool}}")],
        ),
        Panel(
            title="Spills",
            description="Requests that went, of all pools to a larger pool because their own was saturated.",
            unit=Unit.REQUESTS_PER_S,
            queries=[rate("longreach_spilled_total", "from, to", "{{from}} → {{to}}", "$S")],
        ),
        Panel(
            title="Limit and boundary",
            description="The pool's context limit, and up to which length requests go to it first where that follows "
            "the traffic (gateway.routing.boundary); longer ones go to the next larger pool.",
            unit=Unit.TOKENS,
            queries=[
                Query("max by (pool) (longreach_pool_context_tokens{$P})", "{{pool}} limit"),
                Query("max by (pool) (longreach_boundary_tokens{$P})", "{{pool}} boundary"),
            ],
        ),
        Panel(
            title="Broken answers",
            description="Answers that broke off after their first byte: the client got an error in its stream. "
            "Alert LongreachBrokenAnswers: over 0.5% of a pool's answers.",
            unit=Unit.REQUESTS_PER_S,
            queries=[rate("longreach_broken_answers_total", "pool, kind", "{{pool}} {{kind}}")],
        ),
    ),
)
ENGINES = Row(
    title="Its engines together",
    panels=(
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
        Panel(
            title="Preemptions",
            description="Sequences thrown out of a full KV cache, to be computed again. Alert LongreachKvCacheFull: "
            "over 0.1/s in a pool with a full cache.",
            unit=Unit.PER_S,
            queries=[rate("vllm:num_preemptions_total", "pool", "{{pool}}")],
        ),
        Panel(
            title="Waiting in engines, by reason",
            description="Requests inside engines that do not run. capacity: the batch or the KV cache is full; "
            "deferred: they wait for KV blocks from another tier.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (pool, reason) (vllm:num_requests_waiting_by_reason{$P})", "{{pool}} {{reason}}")],
        ),
    ),
)
POOL = Dashboard(
    uid="longreach-pool",
    title="Longreach / Pool",
    description="What the clients of each pool get, and what its engines do together.",
    home="longreach_endpoints",
    choices=(choices.POOLS,),
    rows=(NOW, CLIENTS, ENGINES),
)
