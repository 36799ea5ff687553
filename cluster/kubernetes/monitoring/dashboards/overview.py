"""The first page: what clients get, and the gateways themselves.

What must not live here: the row of tokens (tokens.py), what one pool (pool.py), replica (replica.py) or tenant does.
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.dashboards import choices
from cluster.kubernetes.monitoring.dashboards.tokens import TOKENS
from cluster.kubernetes.monitoring.panels import Dashboard, Kind, Panel, Query, Row, Unit, quantiles, rate, share
from cluster.kubernetes.monitoring.rules.recording import bad_ratio
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS

NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Requests",
            description="Requests that ended, of all kinds and outcomes.",
            unit=Unit.REQUESTS_PER_S,
            kind=Kind.NUMBER,
            width=4,
            queries=[Query("sum(rate(longreach_requests_total{$P}[$__rate_interval]))", "requests")],
        ),
        Panel(
            title="Bad",
            description="Share of the last 5 minutes' requests that failed or broke off; a tenant over its quota does "
            "not count. Alerts LongreachErrorBudgetFast and LongreachErrorBudgetSlow judge it over longer windows.",
            unit=Unit.RATIO,
            kind=Kind.NUMBER,
            width=4,
            alarm=THRESHOLDS["error_budget_ratio"].value,
            queries=[Query(f"{bad_ratio('5m')}{{$S}}", "bad")],
        ),
        Panel(
            title="First byte, p95",
            description="From a request's last byte in to its answer's first byte out. Of a stream this is the time to "
            "its first token; of other answers, to the whole of it.",
            unit=Unit.SECONDS,
            kind=Kind.NUMBER,
            width=4,
            queries=[
                Query(
                    "histogram_quantile(0.95, sum by (le) (rate(longreach_first_byte_seconds_bucket{$P}"
                    "[$__rate_interval])))",
                    "p95",
                )
            ],
        ),
        Panel(
            title="In flight",
            description="Requests that gateways serve now, waiting ones included.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=4,
            queries=[Query("sum(longreach_in_flight{$S})", "in flight")],
        ),
        Panel(
            title="Ready replicas",
            description="Endpoints that take work, of the chosen pools, as the gateway sees them that sees most.",
            unit=Unit.COUNT,
            kind=Kind.NUMBER,
            width=4,
            alarm=1,
            alarm_below=True,
            queries=[Query('sum(max by (pool) (longreach_endpoints{$P, state="ready"}))', "ready")],
        ),
        Panel(
            title="Output",
            description="Tokens generated, as engines counted them.",
            unit=Unit.TOKENS_PER_S,
            kind=Kind.NUMBER,
            width=4,
            queries=[Query('sum(rate(longreach_tokens_total{$P, kind="output"}[$__rate_interval]))', "output")],
        ),
    ),
)
REQUESTS = Row(
    title="Requests",
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
            title="Requests by pool",
            description="Pool `none` is requests that reached none: refused before, or nobody was there.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_requests_total", "pool", "{{pool}}", "$S")],
        ),
        Panel(
            title="Requests by route",
            description="Which of the APIs clients use; gRPC calls count under the REST route they stand for.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_requests_total", "route", "{{route}}")],
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
    ),
)
ADMISSION = Row(
    title="Waiting and refusing",
    panels=(
        Panel(
            title="In flight",
            description="Requests being served, by gateway; each refuses over gateway.limits.concurrent_requests.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (pod) (longreach_in_flight{$S})", "{{pod}}")],
        ),
        Panel(
            title="Queue by priority",
            description="Requests that wait in gateways for a free slot of a replica.",
            unit=Unit.COUNT,
            is_stacked=True,
            queries=[Query("sum by (priority) (longreach_queue_length{$S})", "{{priority}}")],
        ),
        Panel(
            title="Wait for a slot",
            description="How long those waited that got one. Alert LongreachQueueWaitLong: p95 over the line.",
            unit=Unit.SECONDS,
            alarm=THRESHOLDS["queue_wait_s"].value,
            queries=quantiles("longreach_admission_wait_seconds", "pool", "{{pool}}"),
        ),
        Panel(
            title="Refusals by reason",
            description="What gateways themselves answered with an error, by its code: overloaded and gateway_full are "
            "lack of capacity (alert LongreachOverloaded: over 2%), *_per_minute a tenant's quota, most others the "
            "client's own mistakes.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            width=12,
            queries=[rate("longreach_refused_total", "reason", "{{reason}}", "$S")],
        ),
        Panel(
            title="Spills",
            description="Requests that went to a larger pool because their own was saturated.",
            unit=Unit.REQUESTS_PER_S,
            width=12,
            queries=[rate("longreach_spilled_total", "from, to", "{{from}} → {{to}}", "$S")],
        ),
    ),
)
REPLICAS = Row(
    title="Towards replicas",
    panels=(
        Panel(
            title="Attempts by result",
            description="Requests sent to endpoints. answered and refused are answers; overloaded is a full replica; "
            "connect, reset and timeout are failures, after which another replica is tried.",
            unit=Unit.REQUESTS_PER_S,
            is_stacked=True,
            queries=[rate("longreach_attempts_total", "result", "{{result}}")],
        ),
        Panel(
            title="Failed attempts",
            description="Share of attempts that failed. Alert LongreachAttemptsFailing: over the line.",
            unit=Unit.RATIO,
            alarm=THRESHOLDS["attempts_failing_ratio"].value,
            queries=[
                share(
                    'longreach_attempts_total{$P, result=~"connect|reset|timeout"}',
                    'longreach_attempts_total{$P, result!="full"}',
                    "pool",
                    "{{pool}}",
                )
            ],
        ),
        Panel(
            title="Broken answers",
            description="Answers that broke off after their first byte: the client got an error in its stream. "
            "Alert LongreachBrokenAnswers: over 0.5% of a pool's answers.",
            unit=Unit.REQUESTS_PER_S,
            queries=[rate("longreach_broken_answers_total", "pool, kind", "{{pool}} {{kind}}")],
        ),
        Panel(
            title="Endpoints by state",
            description="ready: takes work; suspect: failed a moment ago, or its breaker is open; draining: leaves. "
            "Alerts LongreachPoolWithoutReplica, LongreachEndpointsSuspect, LongreachReplicasFlapping.",
            unit=Unit.COUNT,
            width=12,
            queries=[Query("max by (pool, state) (longreach_endpoints{$P})", "{{pool}} {{state}}")],
        ),
        Panel(
            title="Directory's age",
            description="Since each gateway last read the leases; -1 is never. It grows while the state store is away. "
            "Alert LongreachDirectoryStale: over the line.",
            unit=Unit.SECONDS,
            width=12,
            alarm=THRESHOLDS["directory_age_s"].value,
            queries=[Query("longreach_directory_age_seconds{$S}", "{{pod}}")],
        ),
    ),
)
GATEWAYS = Row(
    title="Gateways",
    panels=(
        Panel(
            title="Answering Prometheus",
            description="1 where the last scrape of a gateway worked. Alerts LongreachGatewayDown, "
            "LongreachGatewayAbsent.",
            unit=Unit.COUNT,
            kind=Kind.STATES,
            width=6,
            alarm=1,
            alarm_below=True,
            texts={0: "down", 1: "up"},
            queries=[Query('up{$S, job="longreach-gateway"}', "{{pod}}")],
        ),
        Panel(
            title="One routing decision",
            description="CPU time of one decision on the gateway's only thread; over 5 ms other streams stutter. Alert "
            "LongreachRoutingSlow.",
            unit=Unit.SECONDS,
            width=6,
            alarm=THRESHOLDS["decision_s"].value,
            queries=quantiles("longreach_decision_seconds", "release", "decision", "$S"),
        ),
        Panel(
            title="CPU",
            description="Cores used by each gateway, all workers together. A worker has one thread: at 1 core a "
            "worker is full.",
            unit=Unit.COUNT,
            width=6,
            queries=[Query("sum by (pod) (rate(longreach_cpu_seconds_total{$S}[$__rate_interval]))", "{{pod}}")],
        ),
        Panel(
            title="Usage not in the totals",
            description="Bytes of each gateway's journal that wait; over 64 MiB a worker, records are lost. "
            "Alert LongreachUsagePending: over the line.",
            unit=Unit.BYTES,
            width=6,
            alarm=THRESHOLDS["usage_pending_bytes"].value,
            queries=[Query("longreach_usage_pending_bytes{$S}", "{{pod}}")],
        ),
        Panel(
            title="Usage records lost",
            description="Answered requests that are in no total and never will be. Alert LongreachUsageDropped: any.",
            unit=Unit.COUNT,
            width=8,
            queries=[
                Query("sum by (pod) (increase(longreach_usage_dropped_records_total{$S}[$__rate_interval]))", "{{pod}}")
            ],
        ),
        Panel(
            title="Memory",
            description="Of each gateway's workers. It grows with requests in flight and with the residency index.",
            unit=Unit.BYTES,
            width=8,
            queries=[Query("sum by (pod) (longreach_resident_memory_bytes{$S})", "{{pod}}")],
        ),
        Panel(
            title="Versions",
            description="How many gateways run which version; two for longer than a roll-out takes is a stuck one.",
            unit=Unit.COUNT,
            width=8,
            queries=[Query("count by (version) (longreach_info{$S})", "{{version}}")],
        ),
    ),
)
OVERVIEW = Dashboard(
    uid="longreach-overview",
    title="Longreach / Overview",
    description="What clients of one release get, and what its gateways see.",
    home="longreach_in_flight",
    choices=(choices.POOLS,),
    rows=(NOW, REQUESTS, ADMISSION, REPLICAS, TOKENS, GATEWAYS),
)
