"""A cluster as `longreach top` shows it: pools, replicas, the gateway, from two rounds of pages.

What must not live here: fetching (reading.py), tables (cluster/cli/top_view.py), arithmetic (rates.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.local.top.page import Page
from cluster.local.top.rates import quantile, rate, share

BAD_OUTCOMES = ("unavailable", "broken", "expired")
"""What the alert rules count as bad, too (cluster/kubernetes/monitoring/rules/recording.py)."""
P50, P95 = 0.5, 0.95
FIRST_BYTE = "longreach_first_byte_seconds"
TTFT = "vllm:time_to_first_token_seconds"
OF_GATEWAY = frozenset(
    {
        "longreach_info", "longreach_in_flight", "longreach_queue_length", "longreach_held_requests",
        "longreach_endpoints", "longreach_requests_total", "longreach_refused_total", "longreach_tokens_total",
        "longreach_spilled_total", "longreach_autoscale_replicas", "longreach_pool_context_tokens",
        "longreach_cpu_seconds_total", f"{FIRST_BYTE}_bucket",
    }
)  # fmt: skip
"""What is read of a gateway's page."""
OF_REPLICA = frozenset(
    {
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:prompt_tokens_cached_by_source_total",
        "vllm:num_preemptions_total", f"{TTFT}_bucket",
    }
)  # fmt: skip
"""What is read of a replica's page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfReplica:
    """One replica's page, or why there is none."""

    replica_id: str
    pool: str
    model: str
    page: Page | None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What everybody told at about the same time."""

    gateway: Page
    replicas: tuple[PageOfReplica, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSight:
    """One pool; rates are by the second, None is not known: no time has passed, or nobody told."""

    pool: str
    context_tokens: int | None
    ready: int
    suspect: int
    draining: int
    wanted: int | None
    """What autoscaling decided; None where the number is fixed."""
    requests_per_s: float | None
    bad_ratio: float | None
    """Of the requests that ended."""
    held: int
    """Requests waiting in the gateway for this pool."""
    running: int | None
    waiting: int | None
    """In its engines."""
    kv_use_ratio: float | None
    """The highest of its replicas."""
    prompt_tokens_per_s: float | None
    output_tokens_per_s: float | None
    cached_ratio: float | None
    """Of the prompt tokens; by any tier."""
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    """To the first byte of an answer, as the gateway measures it: of a stream, to the first token."""
    spilled_per_s: float | None
    """Requests that went on to a larger pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSight:
    """One replica, as its own page tells."""

    replica_id: str
    pool: str
    model: str
    running: int | None
    waiting: int | None
    kv_use_ratio: float | None
    prompt_tokens_per_s: float | None
    output_tokens_per_s: float | None
    device_ratio: float | None
    """Of the prompt tokens, those found in the engine's memory."""
    host_ratio: float | None
    redis_ratio: float | None
    ttft_p95_s: float | None
    """In the engine: the gateway's waiting is not in it."""
    preemptions_per_s: float | None
    error: str = ""
    """Why nothing is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Everything at one moment."""

    seconds: float
    """That rates are over."""
    version: str
    in_flight: int
    queued: Mapping[str, int]
    """Requests that wait in the gateway, by priority."""
    requests_per_s: float | None
    bad_ratio: float | None
    refused_per_s: Mapping[str, float]
    """By reason; those alone that grew."""
    output_tokens_per_s: float | None
    cpu_cores: float | None
    """Of the gateway."""
    pools: tuple[PoolSight, ...]
    replicas: tuple[ReplicaSight, ...]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def look(before: Round, now: Round) -> Sight:
    """What two rounds say together."""
    old, new = before.gateway, now.gateway
    earlier = {replica.replica_id: replica.page for replica in before.replicas}
    replicas = tuple(_replica(earlier.get(replica.replica_id), replica) for replica in now.replicas)
    pools = new.values("pool", "longreach_pool_context_tokens", "longreach_endpoints")
    refused = {
        reason: rate(old, new, "longreach_refused_total", reason=reason)
        for reason in new.values("reason", "longreach_refused_total")
    }
    return Sight(
        seconds=new.read_s - old.read_s,
        version=next(iter(new.values("version", "longreach_info")), "unknown"),
        in_flight=int(new.total("longreach_in_flight") or 0),
        queued={
            priority: int(new.total("longreach_queue_length", priority=priority) or 0)
            for priority in new.values("priority", "longreach_queue_length")
        },
        requests_per_s=rate(old, new, "longreach_requests_total"),
        bad_ratio=_bad_ratio(old, new),
        refused_per_s={reason: value for reason, value in refused.items() if value},
        output_tokens_per_s=rate(old, new, "longreach_tokens_total", kind="output"),
        cpu_cores=rate(old, new, "longreach_cpu_seconds_total"),
        pools=tuple(
            _pool(old, new, pool, tuple(replica for replica in replicas if replica.pool == pool)) for pool in pools
        ),
        replicas=replicas,
    )


def _pool(old: Page, new: Page, pool: str, replicas: tuple[ReplicaSight, ...]) -> PoolSight:
    prompt = rate(old, new, "longreach_tokens_total", pool=pool, kind="prompt")
    cached = rate(old, new, "longreach_tokens_total", pool=pool, kind="cached")
    states = {
        state: int(new.total("longreach_endpoints", pool=pool, state=state) or 0)
        for state in ("ready", "suspect", "draining")
    }
    return PoolSight(
        pool=pool,
        context_tokens=_whole(new.total("longreach_pool_context_tokens", pool=pool)),
        ready=states["ready"],
        suspect=states["suspect"],
        draining=states["draining"],
        wanted=_whole(new.total("longreach_autoscale_replicas", pool=pool, kind="decided")),
        requests_per_s=rate(old, new, "longreach_requests_total", pool=pool),
        bad_ratio=_bad_ratio(old, new, pool=pool),
        held=int(new.total("longreach_held_requests", pool=pool) or 0),
        running=_sum([replica.running for replica in replicas]),
        waiting=_sum([replica.waiting for replica in replicas]),
        kv_use_ratio=max(
            (replica.kv_use_ratio for replica in replicas if replica.kv_use_ratio is not None), default=None
        ),
        prompt_tokens_per_s=prompt,
        output_tokens_per_s=rate(old, new, "longreach_tokens_total", pool=pool, kind="output"),
        cached_ratio=share(cached, prompt),
        ttft_p50_s=quantile(old, new, FIRST_BYTE, P50, pool=pool),
        ttft_p95_s=quantile(old, new, FIRST_BYTE, P95, pool=pool),
        spilled_per_s=rate(old, new, "longreach_spilled_total", **{"from": pool}),
    )


def _replica(old: Page | None, told: PageOfReplica) -> ReplicaSight:
    """A replica that was not there before has no rates yet."""
    new = told.page if told.page is not None else Page(read_s=0.0)
    before = old if old is not None and told.page is not None else new
    prompt = rate(before, new, "vllm:prompt_tokens_total")

    def tier(source: str) -> float | None:
        return share(rate(before, new, "vllm:prompt_tokens_cached_by_source_total", source=source), prompt)

    return ReplicaSight(
        replica_id=told.replica_id,
        pool=told.pool,
        model=told.model,
        running=_whole(new.total("vllm:num_requests_running")),
        waiting=_whole(new.total("vllm:num_requests_waiting")),
        kv_use_ratio=new.highest("vllm:kv_cache_usage_perc"),
        prompt_tokens_per_s=prompt,
        output_tokens_per_s=rate(before, new, "vllm:generation_tokens_total"),
        device_ratio=tier("device"),
        host_ratio=tier("host"),
        redis_ratio=tier("external_unspecified"),
        ttft_p95_s=quantile(before, new, TTFT, P95),
        preemptions_per_s=rate(before, new, "vllm:num_preemptions_total"),
        error=told.error,
    )


def _bad_ratio(old: Page, new: Page, **labels: str) -> float | None:
    every = rate(old, new, "longreach_requests_total", **labels)
    bad = [rate(old, new, "longreach_requests_total", outcome=outcome, **labels) or 0.0 for outcome in BAD_OUTCOMES]
    return share(sum(bad), every)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
