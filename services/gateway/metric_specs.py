"""What the gateway's metrics are called, what they count, in which unit, and what bounds their labels.

A label's values come from enums and the configuration, never from clients, so their number is bounded: `LABELS` says by
what. docs/observability.md lists all of this, and a test compares. What must not live here: counting (metrics.py),
Prometheus text (exposition.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from services.gateway.metric_kinds import CounterSpec, GaugeSpec, HistogramSpec, Unit

LATENCY_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""From a cache hit's first token to the prefill of a million tokens."""
WAIT_BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From no wait at all to beyond the default limit of a queue."""
PAUSE_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 600)
"""What readers of a stream notice; 3 s is what Longreach means to stay below while it looks for a place."""
DECISION_BUCKETS_S = (10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3)
"""Tens of microseconds are normal; what takes over 5 ms delays other streams."""
PROMPT_BUCKETS_TOKENS = (128, 512, 2_048, 8_192, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
"""The usual context limits, so that a histogram shows where pool boundaries could lie."""
ERROR_BUCKETS_TOKENS = (-16_384, -2_048, -129, -17, -1, 0, 16, 128, 2_048, 16_384, 131_072)
"""On both sides of zero; vLLM's KV block is 16 tokens on a GPU and 128 on a CPU."""
LABELS: dict[str, str] = {
    "bound": "enum `Bound`: what decided a number of replicas",
    "from": "pools of the configuration",
    "how": "enum `PromptCounted`",
    "kind": "a few words that the metric's row names",
    "le": "the histogram's buckets",
    "model": "models and adapters of the configuration",
    "outcome": "enum `Ending`",
    "pool": "pools of the configuration; `none` where a request reached none",
    "priority": "enum `Priority`",
    "reason": "codes of the gateway's refusals; of moves: enum `Moved`",
    "result": "of attempts: `answered`, `refused`, `overloaded`, `full`, enum `FailureKind`; of resumes, moves: enum "
    "`Resumed`; of requests with a key: enum `Repeated`",
    "revision": "revisions of the configuration, and `other`",
    "route": "enum `Route`",
    "stage": "enum `ResumeStage`",
    "state": "enum `EndpointState`",
    "tenant": "tenants of the configuration, `default`, and `other`",
    "tier": "`replica`, `redis`",
    "to": "pools of the configuration",
    "version": "one: this process's",
}
"""What bounds the values of each label."""


def _oldest(ages_s: Iterable[float]) -> float:
    """-1, which means never, is older than any age."""
    known = list(ages_s)
    return -1.0 if min(known) < 0 else max(known)


REQUESTS = CounterSpec(
    name="longreach_requests",
    help="Requests by how they ended",
    unit=Unit.REQUESTS,
    labels=("route", "pool", "outcome"),
)
ATTEMPTS = CounterSpec(
    name="longreach_attempts",
    help="Requests sent to endpoints, by result",
    unit=Unit.REQUESTS,
    labels=("pool", "result"),
)
RESUMES = CounterSpec(
    name="longreach_resumes",
    help="Streams that were cut under way: result says how another replica went on, or that none did",
    unit=Unit.REQUESTS,
    labels=("pool", "result"),
)
MOVES = CounterSpec(
    name="longreach_moves",
    help="Streams that were to move from a pool, and why: result says how another replica went on, or that none did",
    unit=Unit.REQUESTS,
    labels=("pool", "reason", "result"),
)
REPEATS = CounterSpec(
    name="longreach_idempotent_requests",
    help="Requests with an Idempotency-Key: first (made the answer), joined (one under way), replayed, reused (another "
    "request's key: 422), alone (served, but no other worker finds it); and answers that were unkept, for their size",
    unit=Unit.REQUESTS,
    labels=("result",),
)
BROKEN = CounterSpec(
    name="longreach_broken_answers",
    help="Answers that broke off under way; kind is a `FailureKind`",
    unit=Unit.REQUESTS,
    labels=("pool", "kind"),
)
TOKENS = CounterSpec(
    name="longreach_tokens",
    help="Tokens as engines counted them: prompt, cached (of these, not computed), output",
    unit=Unit.TOKENS,
    labels=("kind", "pool", "model"),
)
TENANT_TOKENS = CounterSpec(
    name="longreach_tenant_tokens",
    help="longreach_tokens_total by tenant",
    unit=Unit.TOKENS,
    labels=("tenant", "kind"),
)
TENANT_REQUESTS = CounterSpec(
    name="longreach_tenant_requests",
    help="Requests by tenant and how they ended",
    unit=Unit.REQUESTS,
    labels=("tenant", "outcome"),
)
TENANT_REFUSED = CounterSpec(
    name="longreach_tenant_refused",
    help="Requests the gateway itself refused, by tenant",
    unit=Unit.REQUESTS,
    labels=("tenant", "reason"),
)
SPILLED = CounterSpec(
    name="longreach_spilled",
    help="Requests sent to a larger pool because theirs was saturated",
    unit=Unit.REQUESTS,
    labels=("from", "to"),
)
REVISION_REQUESTS = CounterSpec(
    name="longreach_revision_requests",
    help="Answers by the revision of the replica, where it has one, and how they ended",
    unit=Unit.REQUESTS,
    labels=("pool", "revision", "outcome"),
)
REFUSED = CounterSpec(
    name="longreach_refused", help="Requests the gateway itself refused", unit=Unit.REQUESTS, labels=("reason",)
)
PROMPT_COUNTS = CounterSpec(
    name="longreach_prompt_count",
    help="How prompt lengths were found out: bound (by bytes), interval (learned from earlier prompts), sampled "
    "(a part was tokenized), tokenized, given",
    unit=Unit.PROMPTS,
    labels=("how",),
)
CPU = CounterSpec(
    name="longreach_cpu_seconds", help="CPU time of the gateway, all of its threads", unit=Unit.SECONDS, labels=()
)
SPANS = CounterSpec(
    name="longreach_trace_spans",
    help="Spans by what became of them: exported, failed (not taken), dropped (no room in the queue); once for each "
    "place they go to",
    unit=Unit.SPANS,
    labels=("result",),
)
USAGE_DROPPED = CounterSpec(
    name="longreach_usage_dropped_records",
    help="Requests missing in the usage totals: the disk refused, or 64 MiB were pending",
    unit=Unit.RECORDS,
    labels=(),
)
SECONDS = HistogramSpec(
    name="longreach_request_seconds",
    help="From a request's last byte in to its answer's last byte out",
    unit=Unit.SECONDS,
    labels=("route", "pool"),
    buckets=LATENCY_BUCKETS_S,
)
FIRST_BYTE = HistogramSpec(
    name="longreach_first_byte_seconds",
    help="From a request's last byte in to its answer's first byte (time to first token of a stream)",
    unit=Unit.SECONDS,
    labels=("route", "pool"),
    buckets=LATENCY_BUCKETS_S,
)
REVISION_FIRST_BYTE = HistogramSpec(
    name="longreach_revision_first_byte_seconds",
    help="longreach_first_byte_seconds by the revision of the replica, where it has one",
    unit=Unit.SECONDS,
    labels=("pool", "revision"),
    buckets=LATENCY_BUCKETS_S,
)
TENANT_FIRST_BYTE = HistogramSpec(
    name="longreach_tenant_first_byte_seconds",
    help="longreach_first_byte_seconds by tenant",
    unit=Unit.SECONDS,
    labels=("tenant",),
    buckets=LATENCY_BUCKETS_S,
)
PROMPT = HistogramSpec(
    name="longreach_prompt_tokens",
    help="Prompt length as the gateway counted it (upper bounds and estimates included)",
    unit=Unit.TOKENS,
    labels=("pool",),
    buckets=PROMPT_BUCKETS_TOKENS,
)
ADMISSION_WAIT = HistogramSpec(
    name="longreach_admission_wait_seconds",
    help="Waiting in the gateway for a free slot",
    unit=Unit.SECONDS,
    labels=("pool",),
    buckets=WAIT_BUCKETS_S,
)
RESUME = HistogramSpec(
    name="longreach_resume_seconds",
    help="From a stream's cut to the first byte of the replica that goes on with it, by pool and stage",
    unit=Unit.SECONDS,
    labels=("pool", "stage"),
    buckets=PAUSE_BUCKETS_S,
)
DECISION = HistogramSpec(
    name="longreach_decision_seconds",
    help="One routing decision",
    unit=Unit.SECONDS,
    labels=(),
    buckets=DECISION_BUCKETS_S,
)
CACHED_ERROR = HistogramSpec(
    name="longreach_cached_tokens_error",
    help="Predicted minus actual cached tokens, by where the last of them was expected; it has neither sum nor count: "
    "`+Inf` is the count",
    unit=Unit.TOKENS,
    labels=("tier",),
    buckets=ERROR_BUCKETS_TOKENS,
)
IN_FLIGHT = GaugeSpec(
    name="longreach_in_flight", help="Requests being served", unit=Unit.REQUESTS, labels=(), together=sum
)
QUEUE = GaugeSpec(
    name="longreach_queue_length",
    help="Requests waiting for a free slot",
    unit=Unit.REQUESTS,
    labels=("priority",),
    together=sum,
)
HELD = GaugeSpec(
    name="longreach_held_requests",
    help="Requests waiting in the gateway, by the smallest pool that holds them, empty pools too",
    unit=Unit.REQUESTS,
    labels=("pool",),
    together=sum,
)
AUTOSCALE_REPLICAS = GaugeSpec(
    name="longreach_autoscale_replicas",
    help="Replicas by the latest decision on them: decided, needed_now and needed_ahead (fractions), ready, starting, "
    "min, max",
    unit=Unit.REPLICAS,
    labels=("pool", "kind"),
    together=max,
)
AUTOSCALE_STARTUP = GaugeSpec(
    name="longreach_autoscale_startup_seconds",
    help="From a replica's order to its first request, as measured",
    unit=Unit.SECONDS,
    labels=("pool",),
    together=max,
)
AUTOSCALE_PINNED = GaugeSpec(
    name="longreach_autoscale_pinned",
    help="1 while an operator has pinned the number",
    unit=Unit.FLAG,
    labels=("pool",),
    together=max,
)
AUTOSCALE_AGE = GaugeSpec(
    name="longreach_autoscale_age_seconds",
    help="Since the last decision; over a few seconds: nobody decides",
    unit=Unit.SECONDS,
    labels=("pool",),
    together=max,
)
BOUNDARY = GaugeSpec(
    name="longreach_boundary_tokens",
    help="Requests up to this length go to the pool first, where that follows the traffic; the pool's limit: as "
    "without",
    unit=Unit.TOKENS,
    labels=("pool",),
    together=max,
)
ENDPOINTS = GaugeSpec(
    name="longreach_endpoints",
    help="Known endpoints by state",
    unit=Unit.ENDPOINTS,
    labels=("pool", "state"),
    together=max,
)
AGE = GaugeSpec(
    name="longreach_directory_age_seconds",
    help="Since the leases were last read; -1: never",
    unit=Unit.SECONDS,
    labels=(),
    together=_oldest,
)
USAGE_PENDING = GaugeSpec(
    name="longreach_usage_pending_bytes",
    help="Usage on disk that is not in the totals yet; it grows while Redis is away",
    unit=Unit.BYTES,
    labels=(),
    together=sum,
)
AUTOSCALE_BOUND = GaugeSpec(
    name="longreach_autoscale_bound",
    help="1 for what decided the number of replicas, 0 for all else",
    unit=Unit.FLAG,
    labels=("pool", "bound"),
    together=max,
)
CONTEXT = GaugeSpec(
    name="longreach_pool_context_tokens",
    help="The pool's context limit",
    unit=Unit.TOKENS,
    labels=("pool",),
    together=max,
)
RESIDENT = GaugeSpec(
    name="longreach_resident_chunks",
    help="Chunks of prompts known to be in replicas' caches",
    unit=Unit.CHUNKS,
    labels=(),
    together=max,
)
MEMORY = GaugeSpec(
    name="longreach_resident_memory_bytes",
    help="Memory of the gateway's workers",
    unit=Unit.BYTES,
    labels=(),
    together=sum,
)
INFO = GaugeSpec(
    name="longreach_info", help="Always 1; which version runs", unit=Unit.FLAG, labels=("version",), together=max
)
COUNTERS = (
    REQUESTS, ATTEMPTS, RESUMES, MOVES, REPEATS, BROKEN, TOKENS, TENANT_TOKENS, TENANT_REQUESTS, TENANT_REFUSED,
    SPILLED,
    REVISION_REQUESTS, REFUSED, PROMPT_COUNTS, CPU, USAGE_DROPPED, SPANS,
)  # fmt: skip
HISTOGRAMS = (
    SECONDS, FIRST_BYTE, REVISION_FIRST_BYTE, TENANT_FIRST_BYTE, PROMPT, ADMISSION_WAIT, RESUME, DECISION,
    CACHED_ERROR,
)  # fmt: skip
GAUGES = (
    IN_FLIGHT, QUEUE, HELD, AUTOSCALE_REPLICAS, AUTOSCALE_BOUND, AUTOSCALE_STARTUP, AUTOSCALE_PINNED, AUTOSCALE_AGE,
    BOUNDARY, CONTEXT, ENDPOINTS, AGE, RESIDENT, USAGE_PENDING, MEMORY, INFO,
)  # fmt: skip
