"""What each replica's KV tier has done so far, read from its /metrics.

What must not live here: counting (cluster/engine/tier), tables (cluster/cli/cache_view.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cluster.core.lease import Lease
from cluster.core.wire import HEADER_CREDENTIAL

ANSWER_S = 3.0
"""A replica answers in milliseconds; one that is starved must not hold up a command."""
REPLICAS_MAX = 256
"""Asked at most; all at once."""
BODY_BYTES_MAX = 8 * 2**20
"""vLLM's metrics take some 100 kB."""
SAMPLES: dict[str, tuple[str, str | None]] = {
    "below": ("longreach_tier_prompts_total", "below"),
    "local": ("longreach_tier_prompts_total", "local"),
    "down": ("longreach_tier_prompts_total", "down"),
    "asked": ("longreach_tier_prompts_total", "asked"),
    "found": ("longreach_tier_answers_total", "found"),
    "late": ("longreach_tier_answers_total", "late"),
    "breaker_open": ("longreach_tier_breaker_open", None),
    "break_even_tokens": ("longreach_tier_break_even_tokens", None),
    "least_prompt_tokens": ("longreach_tier_least_prompt_tokens", None),
    "loaded_blocks": ("vllm:redis_tier_blocks_total", "loaded"),
    "missing_blocks": ("vllm:redis_tier_blocks_total", "missing"),
    "stored_blocks": ("vllm:redis_tier_blocks_total", "stored"),
    "dropped_blocks": ("vllm:redis_tier_dropped_blocks_total", None),
    "bad_values": ("vllm:redis_tier_bad_values_total", None),
}
"""Metric and label value of each counter; without a label, all of its samples are added up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCounters:
    """One replica's tier; docs/prefix-cache.md explains the metrics behind the names."""

    replica_id: str
    pool: str
    counters: dict[str, int]
    """By name in `SAMPLES`; what has no sample is left out, as is a break-even that is infinite."""
    error: str = ""
    """Why there are none."""


def read_counters(leases: Sequence[Lease], secret: str | None) -> tuple[ReplicaCounters, ...]:
    """Ask these replicas, all at once; never raises for one that does not answer.

    Args:
        leases: of replicas with a tier.
        secret: the cluster's, without which they answer nobody.
    """
    if not leases:
        return ()

    async def read() -> tuple[ReplicaCounters, ...]:
        headers = {HEADER_CREDENTIAL: secret} if secret is not None else {}
        async with httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False) as client:
            asked = [_read(client, lease) for lease in leases[:REPLICAS_MAX]]
            return tuple(await asyncio.gather(*asked))

    return asyncio.run(read())


async def _read(client: httpx.AsyncClient, lease: Lease) -> ReplicaCounters:
    counters: dict[str, int] = {}
    error = ""
    try:
        # httpx bounds the time between two bytes; this bounds them all.
        async with asyncio.timeout(ANSWER_S):
            answer = await client.get(f"{lease.url}/metrics")
        answer.raise_for_status()
        counters = counters_of(answer.text[:BODY_BYTES_MAX])
    except (httpx.HTTPError, ValueError, TimeoutError) as fault:
        error = str(fault).splitlines()[0] if str(fault) else f"no answer within {ANSWER_S:.0f} s"
    return ReplicaCounters(replica_id=lease.replica_id, pool=lease.pool, counters=counters, error=error)


def counters_of(text: str) -> dict[str, int]:
    """The counters in a replica's metrics.

    Raises:
        ValueError: this is not the text of metrics.
    """
    sums: dict[tuple[str, str | None], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label in (None, *sample.labels.values()):
                at = (sample.name, label)
                sums[at] = sums.get(at, 0.0) + sample.value
    return {name: int(sums[at]) for name, at in SAMPLES.items() if at in sums and math.isfinite(sums[at])}
