"""The page of tenants: what each asks for, gets, and is refused.

What must not live here: pools, replicas.
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit, quantiles, rate, share

QUOTA = 'reason=~"requests_per_minute|tokens_per_minute"'
NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Requests",
            description="Requests of the chosen tenants that ended; tenants that are not in the configuration are "
            "together `other`.",
            unit=Unit.REQUESTS_PER_S,
            kind=Kind.NUMBER,
            width=8,
            queries=[rate("longreach_tenant_requests_total", "tenant", "{{tenant}}", "$T")],
        ),
        Panel(
            title="Output",
            description="Tokens generated for each tenant, as engines counted them.",
            unit=Unit.TOKENS_PER_S,
            kind=Kind.NUMBER,
            width=8,
            queries=[rate("longreach_tenant_tokens_total", "tenant", "{{tenant}}", '$T, kind="output"')],
        ),
        Panel(
            title="Over quota",
            description="Requests refused because the tenant has used its requests or tokens of the minute.",
            unit=Unit.REQUESTS_PER_S,
            kind=Kind.NUMBER,
            width=8,
            queries=[rate("longreach_tenant_refused_total", "tenant", "{{tenant}}", f"$T, {QUOTA}")],
        ),
    ),
)
SERVICE = Row(
    title="What each gets",
    panels=(
        Panel(
            title="Requests by outcome",
            description="ok; refused: a 4xx; unavailable: a 5xx or 429; broken: the answer broke off; expired: the "
            "deadline passed; client_gone: the client left.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            width=12,
            queries=[rate("longreach_tenant_requests_total", "tenant, outcome", "{{tenant}} {{outcome}}", "$T")],
        ),
        Panel(
            title="Time to first byte",
            description="Streams: time to first token, waiting in the gateway included. Under overload a tenant with a "
            "larger share waits less.",
            unit=Unit.SECONDS,
            width=12,
            queries=quantiles("longreach_tenant_first_byte_seconds", "tenant", "{{tenant}}", "$T"),
        ),
        Panel(
            title="Refusals by reason",
            description="What gateways answered with an error, by its code: *_per_minute is the tenant's quota, "
            "overloaded and gateway_full are lack of capacity. Alert LongreachOverloaded: over 2% of all "
            "requests.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            width=12,
            queries=[rate("longreach_tenant_refused_total", "tenant, reason", "{{tenant}} {{reason}}", "$T")],
        ),
        Panel(
            title="Share of all requests",
            description="Of the release's requests that ended and whose tenant was known.",
            unit=Unit.RATIO,
            is_stacked=True,
            width=12,
            queries=[
                Query(
                    "sum by (tenant) (rate(longreach_tenant_requests_total{$T}[$__rate_interval])) "
                    "/ scalar(sum(rate(longreach_tenant_requests_total{$S}[$__rate_interval])))",
                    "{{tenant}}",
                )
            ],
        ),
    ),
)
TOKENS = Row(
    title="What each uses",
    panels=(
        Panel(
            title="Tokens by tenant",
            description="Prompt and output tokens, as engines counted them; `longreach usage` has the totals.",
            unit=Unit.TOKENS_PER_S,
            width=12,
            queries=[
                rate(
                    "longreach_tenant_tokens_total", "tenant, kind", "{{tenant}} {{kind}}", '$T, kind=~"prompt|output"'
                )
            ],
        ),
        Panel(
            title="Cached share by tenant",
            description="Share of each tenant's prompt tokens that were not computed. Caches are each tenant's own.",
            unit=Unit.RATIO,
            width=12,
            queries=[
                share(
                    'longreach_tenant_tokens_total{$T, kind="cached"}',
                    'longreach_tenant_tokens_total{$T, kind="prompt"}',
                    "tenant",
                    "{{tenant}}",
                )
            ],
        ),
    ),
)
TENANTS = Dashboard(
    uid="longreach-tenants",
    title="Longreach / Tenants",
    description="What the tenants of one release ask for, get, and are refused.",
    home="longreach_in_flight",
    choices=(choices.TENANTS,),
    rows=(NOW, SERVICE, TOKENS),
)
