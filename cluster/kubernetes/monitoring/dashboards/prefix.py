"""The page of prefix caches: what each tier gave, how well routing knew, what Redis does.

What must not live here: engines (pool.py, replica.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit, rate, share
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS

REDIS_PODS = 'namespace="$namespace", pod=~"$release.*redis.*", container!=""'
NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Cached share",
            description="Share of prompt tokens that some cache had: the engine's, the host's or Redis.",
            unit=Unit.RATIO,
            kind=Kind.NUMBER,
            width=8,
            queries=[
                share(
                    'longreach_tokens_total{$P, kind="cached"}',
                    'longreach_tokens_total{$P, kind="prompt"}',
                    "pool",
                    "{{pool}}",
                )
            ],
        ),
        Panel(
            title="Prompt tokens not computed",
            description="What caches of all tiers saved the engines.",
            unit=Unit.TOKENS_PER_S,
            kind=Kind.NUMBER,
            width=8,
            queries=[rate("longreach_tokens_total", "pool", "{{pool}}", '$P, kind="cached"')],
        ),
        Panel(
            title="Known chunks",
            description="Chunks of prompts that a gateway knows to be in some replica's cache.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=8,
            queries=[Query("max by (release) (longreach_resident_chunks{$S})", "chunks")],
        ),
    ),
)
BY_TIER = "vllm:prompt_tokens_cached_by_source_total"
TIERS = Row(
    title="By tier",
    panels=(
        Panel(
            title="Cached tokens by tier",
            description="Prompt tokens that were not computed, by where their KV blocks were. device: the engine's own "
            "memory; host: the host's memory; external_unspecified: Redis. disk and p2p are not in use here.",
            unit=Unit.TOKENS_PER_S,
            is_stacked=True,
            width=12,
            queries=[rate(BY_TIER, "source", "{{source}}")],
        ),
        Panel(
            title="Share of prompt tokens by tier",
            description="The same as a share of all prompt tokens of each pool.",
            unit=Unit.RATIO,
            is_stacked=True,
            width=12,
            queries=[
                Query(
                    f"sum by (pool, source) (rate({BY_TIER}{{$P}}[$__rate_interval])) / on (pool) group_left () "
                    "sum by (pool) (rate(vllm:prompt_tokens_total{$P}[$__rate_interval]))",
                    "{{pool}} {{source}}",
                )
            ],
        ),
        Panel(
            title="Found in the engine's cache",
            description="Share of the prompt tokens that were looked up.",
            unit=Unit.RATIO,
            width=12,
            queries=[
                share("vllm:prefix_cache_hits_total{$P}", "vllm:prefix_cache_queries_total{$P}", "pool", "{{pool}}")
            ],
        ),
        Panel(
            title="Found in host memory or Redis",
            description="Share of the prompt tokens that the engine's own cache did not have.",
            unit=Unit.RATIO,
            width=12,
            queries=[
                share(
                    "vllm:external_prefix_cache_hits_total{$P}",
                    "vllm:external_prefix_cache_queries_total{$P}",
                    "pool",
                    "{{pool}}",
                )
            ],
        ),
        Panel(
            title="Predictions that were wrong",
            description="Share of requests with over 128 cached tokens more or fewer than routing expected, by where "
            "they were expected. Alert LongreachPredictionWrong: replica over the line.",
            unit=Unit.RATIO,
            width=12,
            alarm=THRESHOLDS["prediction_ratio"].value,
            queries=[
                Query(
                    '1 - (sum by (tier) (rate(longreach_cached_tokens_error_bucket{$S, le="128.0"}[$__rate_interval])) '
                    '- sum by (tier) (rate(longreach_cached_tokens_error_bucket{$S, le="-129.0"}[$__rate_interval]))) '
                    '/ sum by (tier) (rate(longreach_cached_tokens_error_bucket{$S, le="+Inf"}[$__rate_interval]))',
                    "{{tier}}",
                )
            ],
        ),
        Panel(
            title="Evicted from the engine's memory",
            description="KV cache in use of each replica; near 1, every new block pushes an old prefix out.",
            unit=Unit.RATIO,
            width=12,
            alarm=THRESHOLDS["kv_use_ratio"].value,
            queries=[Query("max by (pool, replica) (vllm:kv_cache_usage_perc{$P})", "{{pool}} {{replica}}")],
        ),
    ),
)
REDIS = Row(
    title="Redis tier",
    panels=(
        Panel(
            title="Breakers",
            description="1 while a replica does not look in Redis (lookup) or fetches nothing from it (fetch). Alert "
            "LongreachRedisTierDown: 10 minutes.",
            unit=Unit.COUNT,
            alarm=1,
            queries=[
                Query("max by (pool, replica) (longreach_tier_breaker_open{$P})", "{{pool}} {{replica}} lookup"),
                Query("1 - min by (pool, replica) (vllm:redis_tier_up{$P})", "{{pool}} {{replica}} fetch"),
            ],
        ),
        Panel(
            title="Prompts by decision",
            description="below: too short to be worth a question; local: the engine has it; down: Redis is away or "
            "slow; asked: Redis was asked.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_tier_prompts_total", "decision", "{{decision}}")],
        ),
        Panel(
            title="Answers",
            description="Of the questions: found enough to fetch; late, the request went on without.",
            unit=Unit.REQUESTS_PER_S,
            queries=[
                rate("longreach_tier_prompts_total", "pool", "{{pool}} asked", '$P, decision="asked"'),
                rate("longreach_tier_answers_total", "pool, outcome", "{{pool}} {{outcome}}"),
            ],
        ),
        Panel(
            title="Redis answers within",
            description="As each replica measured how long a question takes.",
            unit=Unit.SECONDS,
            queries=[Query("max by (pool, replica) (longreach_tier_latency_seconds{$P})", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Fetched and stored",
            description="Bytes of KV blocks from and to Redis.",
            unit=Unit.BYTES_PER_S,
            queries=[
                rate("vllm:redis_tier_read_bytes_total", "pool", "{{pool}} fetched"),
                rate("vllm:redis_tier_written_bytes_total", "pool", "{{pool}} stored"),
            ],
        ),
        Panel(
            title="Blocks",
            description="What became of KV blocks: loaded, missing (evicted before the load), stored, refreshed, "
            "refused (Redis said no).",
            unit=Unit.PER_S,
            queries=[rate("vllm:redis_tier_blocks_total", "result", "{{result}}")],
        ),
        Panel(
            title="Not stored, damaged, failed",
            description="Blocks dropped by reason, values that were not what their keys promise, failures of Redis. "
            "Alerts LongreachRedisTierNotStoring, LongreachRedisTierBadValues.",
            unit=Unit.PER_S,
            queries=[
                rate("vllm:redis_tier_dropped_blocks_total", "reason", "dropped: {{reason}}"),
                rate("vllm:redis_tier_bad_values_total", "fault", "damaged: {{fault}}"),
                rate("vllm:redis_tier_failures_total", "pool", "{{pool}} failures"),
            ],
        ),
        Panel(
            title="Break-even",
            description="Fewest tokens that each replica fetches rather than computes; none where it is not measured.",
            unit=Unit.TOKENS,
            queries=[Query("min by (pool, replica) (longreach_tier_break_even_tokens{$P})", "{{pool}} {{replica}}")],
        ),
        Panel(
            title="Memory of Redis",
            description="Working set of the release's own Redis pods, as the kubelet measures it. An external Redis is "
            "not here.",
            unit=Unit.BYTES,
            queries=[Query(f"sum by (pod) (container_memory_working_set_bytes{{{REDIS_PODS}}})", "{{pod}}")],
        ),
        Panel(
            title="CPU of Redis",
            description="Cores of the release's own Redis pods. One is all that a Redis takes for commands.",
            unit=Unit.COUNT,
            alarm=1,
            queries=[
                Query(
                    f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{REDIS_PODS}}}[$__rate_interval]))",
                    "{{pod}}",
                )
            ],
        ),
    ),
)
PREFIX_CACHE = Dashboard(
    uid="longreach-prefix-cache",
    title="Longreach / Prefix cache",
    description="What prefix caches of one release save, by tier, and what Redis does for them.",
    home="longreach_endpoints",
    choices=(choices.POOLS,),
    rows=(NOW, TIERS, REDIS),
)
