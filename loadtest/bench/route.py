"""Times routing decisions: small and large clusters, short and long prompts.

What lives here: the endpoints to choose from and the clock. What must not: printing (cluster/cli), the decision.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed
from cluster.core.routing import Decision, Endpoint, EndpointTable, Policy, Pool, Query, profile_of, route

ENDPOINT_COUNTS = (2, 10, 100, 1000)
"""2 is one replica in each of two pools: the smallest cluster that routes by length."""
PROMPT_TOKENS = (1_000, 32_000, 200_000)
OUTPUT_TOKENS = 512
DECISIONS = 4_000
"""For each row: p99 is then over the 40 slowest."""
WARM_UP_DECISIONS = 300
"""Not counted: the interpreter specializes what runs often."""
PREFIX_HOLDERS = 16
CAPACITY = 64
IN_FLIGHT = 64
"""Requests kept running while decisions are timed, so that endpoints change place between decisions."""
_POOL_LIMITS = {"short": 8_192, "long": 65_536, "huge": 262_144}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTiming:
    """What decisions of one kind cost."""

    endpoints: int
    prompt_tokens: int
    with_prefix: bool
    """Whether 16 endpoints hold a part of the prompt and the request belongs to a session."""
    candidates: int
    """How many were scored, at most."""
    p50_us: float
    p99_us: float
    mean_us: float
    update_us: float
    """Mean of telling the table that one request started, gave its first token and finished."""

    def row(self) -> dict[str, int | float | bool]:
        """As plain data."""
        return asdict(self)


def measure_routes(
    seed: int,
    *,
    decisions: int = DECISIONS,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[RouteTiming]:
    """Time decisions of the policy `balanced`.

    Args:
        seed: for loads, prefixes and ties.
        decisions: how many for each row.
        progress: called with rows done and rows in all.
    """
    kinds = [
        (count, tokens, with_prefix)
        for count in ENDPOINT_COUNTS
        for tokens in PROMPT_TOKENS
        for with_prefix in (False, True)
    ]
    timings = []
    for done, (count, tokens, with_prefix) in enumerate(kinds):
        progress(done, len(kinds))
        timings.append(_measure(count, tokens, with_prefix=with_prefix, seed=seed, decisions=decisions))
    progress(len(kinds), len(kinds))
    return timings


def _measure(count: int, prompt_tokens: int, *, with_prefix: bool, seed: int, decisions: int) -> RouteTiming:
    rng = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
    pools, table = _cluster(count, rng)
    profile = profile_of(Policy.BALANCED)
    holders = [pool.name for pool in pools if pool.context_tokens > prompt_tokens + OUTPUT_TOKENS]
    ids = [member.endpoint.replica_id for member in table.members() if member.endpoint.pool in holders]
    need = ContextNeed(prompt_tokens=prompt_tokens, output_tokens=OUTPUT_TOKENS, is_explicit=True)
    running: list[tuple[ReplicaId, int]] = []
    decision_ns: list[int] = []
    update_ns = 0
    most_candidates = 0
    # Pauses of the collector would be counted to whichever decision they hit.
    gc.collect()
    gc.disable()
    try:
        for number in range(WARM_UP_DECISIONS + decisions):
            begin_ns = time.perf_counter_ns()
            query = Query(need=need)
            if with_prefix:
                resident = _resident(ids, prompt_tokens, rng)
                session = rng.getrandbits(64)
                begin_ns = time.perf_counter_ns()
                query = Query(need=need, session=session, resident=resident)
            decision = route(query, pools, table, profile, rng)
            end_ns = time.perf_counter_ns()
            assert isinstance(decision, Decision), decision
            first = decision.first
            told_ns = time.perf_counter_ns()
            table.started(first.endpoint.replica_id, first.prefill_tokens)
            running.append((first.endpoint.replica_id, first.prefill_tokens))
            if len(running) > min(IN_FLIGHT, count * CAPACITY // 8):
                replica_id, prefill_tokens = running.pop(0)
                table.first_token(replica_id, prefill_tokens)
                table.finished(replica_id)
            done_ns = time.perf_counter_ns()
            if number >= WARM_UP_DECISIONS:
                decision_ns.append(end_ns - begin_ns)
                update_ns += done_ns - told_ns
                most_candidates = max(most_candidates, len(decision.choices))
    finally:
        gc.enable()
    decision_ns.sort()
    return RouteTiming(
        endpoints=count,
        prompt_tokens=prompt_tokens,
        with_prefix=with_prefix,
        candidates=most_candidates,
        p50_us=round(decision_ns[len(decision_ns) // 2] / 1e3, 1),
        p99_us=round(decision_ns[len(decision_ns) * 99 // 100] / 1e3, 1),
        mean_us=round(sum(decision_ns) / len(decision_ns) / 1e3, 1),
        update_us=round(update_ns / decisions / 1e3, 1),
    )


def _cluster(count: int, rng: random.Random) -> tuple[tuple[Pool, ...], EndpointTable]:
    """Three pools, two where there are only two endpoints, evenly filled; endpoints lightly loaded by others."""
    names = list(_POOL_LIMITS) if count > len(_POOL_LIMITS) else ["short", "huge"]
    pools = tuple(Pool(name=PoolName(name), model="m", context_tokens=_POOL_LIMITS[name]) for name in names)
    table = EndpointTable()
    for number in range(count):
        table.put(
            Endpoint(
                replica_id=ReplicaId(f"replica-{number}"),
                pool=pools[number % len(pools)].name,
                url="http://replica",
                accepts=True,
                running=rng.randrange(CAPACITY // 4),
                capacity=CAPACITY,
                queue_limit=CAPACITY,
                kv_use_ratio=rng.random() / 2,
                prefill_tokens=rng.randrange(20_000),
            )
        )
    return pools, table


def _resident(ids: list[ReplicaId], prompt_tokens: int, rng: random.Random) -> dict[ReplicaId, int]:
    lengths = sorted((rng.randrange(prompt_tokens) for _ in range(min(PREFIX_HOLDERS, len(ids)))), reverse=True)
    return dict(zip(rng.sample(ids, len(lengths)), lengths, strict=True))
