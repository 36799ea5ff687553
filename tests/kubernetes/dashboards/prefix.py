"""The row of what caches hold and what Redis does for them.

What must not live here: engines (pools.py), routing's predictions (tokens.py).
"""

from __future__ import annotations

from tests.kubernetes.dashboards.build import Panel, Query, Row, Unit, rate

REDIS_PODS = 'namespace="$namespace", pod=~"$release.*redis.*", container!=""'
PREFIX = Row(
    title="Prefix cache and Redis tier",
    panels=(
        Panel(
            title="Found in the engine's cache",
            description="Share of the prompt tokens that were looked up.",
            unit=Unit.RATIO,
            queries=[
                Query(
                    "sum by (pool) (rate(vllm:prefix_cache_hits_total{$P}[$__rate_interval])) "
                    "/ sum by (pool) (rate(vllm:prefix_cache_queries_total{$P}[$__rate_interval]))",
                    "{{pool}}",
                )
            ],
        ),
        Panel(
            title="Found in host memory or Redis",
            description="Share of the prompt tokens that the engine's own cache did not have.",
            unit=Unit.RATIO,
            queries=[
                Query(
                    "sum by (pool) (rate(vllm:external_prefix_cache_hits_total{$P}[$__rate_interval])) "
                    "/ sum by (pool) (rate(vllm:external_prefix_cache_queries_total{$P}[$__rate_interval]))",
                    "{{pool}}",
                )
            ],
        ),
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
            description="Blocks dropped by reason, values that were not what their keys promise, failures of Redis.",
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
