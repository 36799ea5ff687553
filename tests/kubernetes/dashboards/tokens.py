"""The row of tokens: what was computed, what caches saved, for whom, and how well routing knew.

What must not live here: caches themselves (prefix.py).
"""

from __future__ import annotations

from tests.kubernetes.dashboards.build import Panel, Query, Row, Unit, rate

TOKENS = Row(
    title="Tokens and cache",
    panels=(
        Panel(
            title="Tokens",
            description="As engines counted them; cached tokens are prompt tokens that were not computed.",
            unit=Unit.TOKENS_PER_S,
            queries=[rate("longreach_tokens_total", "kind, model", "{{model}} {{kind}}")],
        ),
        Panel(
            title="Cached share",
            description="Share of prompt tokens that some cache had: the engine's, the host's or Redis.",
            unit=Unit.RATIO,
            queries=[
                Query(
                    'sum by (pool) (rate(longreach_tokens_total{$P, kind="cached"}[$__rate_interval])) '
                    '/ sum by (pool) (rate(longreach_tokens_total{$P, kind="prompt"}[$__rate_interval]))',
                    "{{pool}}",
                )
            ],
        ),
        Panel(
            title="Predictions that were wrong",
            description="Share of requests with over 128 cached tokens more or fewer than routing expected, by where "
            "they were expected. Alert LongreachPredictionWrong: replica over 5%.",
            unit=Unit.RATIO,
            alarm=0.05,
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
            title="How prompts were counted",
            description="bound, interval: without reading them; sampled, tokenized: in a worker thread; given: by the "
            "client or a replica. Many tokenized ones cost CPU.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_prompt_count_total", "how", "{{how}}", "$S")],
        ),
        Panel(
            title="Tokens by tenant",
            description="Prompt and output tokens; tenants that are not in the configuration are `other`.",
            unit=Unit.TOKENS_PER_S,
            queries=[
                Query(
                    'sum by (tenant) (rate(longreach_tenant_tokens_total{$S, kind=~"prompt|output"}'
                    "[$__rate_interval]))",
                    "{{tenant}}",
                )
            ],
        ),
        Panel(
            title="Cached share by tenant",
            description="Share of each tenant's prompt tokens that were not computed. Caches are each tenant's own.",
            unit=Unit.RATIO,
            queries=[
                Query(
                    'sum by (tenant) (rate(longreach_tenant_tokens_total{$S, kind="cached"}[$__rate_interval])) '
                    '/ sum by (tenant) (rate(longreach_tenant_tokens_total{$S, kind="prompt"}[$__rate_interval]))',
                    "{{tenant}}",
                )
            ],
        ),
    ),
)
