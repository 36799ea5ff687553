"""The row of tokens: what was computed, what caches saved, how prompts were counted.

What must not live here: caches themselves (prefix.py), for whom (tenants.py).
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.panels import Panel, Row, Unit, rate, share

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
                share(
                    'longreach_tokens_total{$P, kind="cached"}',
                    'longreach_tokens_total{$P, kind="prompt"}',
                    "pool",
                    "{{pool}}",
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
    ),
)
