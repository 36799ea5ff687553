"""Which pool, then which endpoint: pools by context length, endpoints by load.

The rule, in words. A pool fits when prompt plus output is within its context limit. The smallest pool that fits is
preferred; a larger one serves when the smaller has nobody to serve. A request that named no output length gets the
operator's default, and where no pool holds that, what the largest pool leaves free. Within a pool the least loaded
endpoint comes first; equals are shuffled. Endpoints that failed a moment ago come after all others. A prompt whose
length is only estimated is not refused for being a little long: the largest pool whose replicas count for themselves
gets to say. What must not live here: I/O, clocks, randomness that is not passed in.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed

ESTIMATE_ERROR_RATIO = 2.0
"""How far an estimate may lie over the truth: bytes per token vary from 1.4 (base64) to 5.1 (Chinese), and the
estimate divides by 3 (services/gateway/tokens.py), so the truth is at least half of it for any text met so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as routing sees it."""

    name: PoolName
    model: str
    context_tokens: int
    verifies: bool = True
    """Its members count the prompt themselves and refuse what does not fit; foreign engines may cut it silently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Something that can take a request: a replica with a lease, or a static engine."""

    replica_id: ReplicaId
    pool: PoolName
    url: str
    accepts: bool
    """False while draining: it gets nothing new."""
    load: int
    """Requests it has, running and waiting."""
    is_suspect: bool = False
    """It failed a moment ago or its probe fails: tried only when nobody else is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One endpoint to try, what output budget it gets there, and why."""

    endpoint: Endpoint
    output_tokens: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Endpoints in the order to try them; never empty."""

    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """No pool of the model is large enough, whoever is alive."""

    need: ContextNeed
    largest_context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEndpoint:
    """Pools would fit, but none has an endpoint that accepts."""

    pools: tuple[PoolName, ...]


def fitting_pools(need: ContextNeed, pools: Collection[Pool]) -> tuple[tuple[Pool, int], ...]:
    """The pools that hold `need`, smallest first, each with the output tokens it grants; empty when none does."""
    ordered = sorted(pools, key=lambda pool: (pool.context_tokens, pool.name))
    fits = tuple((pool, need.output_tokens) for pool in ordered if need.total_tokens <= pool.context_tokens)
    if fits:
        return fits
    return _largest_after_all(need, ordered)


def _largest_after_all(need: ContextNeed, ordered: Sequence[Pool]) -> tuple[tuple[Pool, int], ...]:
    """Where nothing holds `need` as it stands: the largest pools, with less output, or to verify an estimate."""
    largest = [pool for pool in ordered if pool.context_tokens == ordered[-1].context_tokens]
    room = ordered[-1].context_tokens - need.prompt_tokens if ordered else 0
    if room >= 1 and not need.is_explicit:
        return tuple((pool, room) for pool in largest)
    if need.count is CountKind.ABOUT:
        verifying = [pool for pool in ordered if pool.verifies]
        least_tokens = need.prompt_tokens / ESTIMATE_ERROR_RATIO + (need.output_tokens if need.is_explicit else 1)
        return tuple(
            (pool, need.output_tokens)
            for pool in verifying
            if pool.context_tokens == verifying[-1].context_tokens and least_tokens <= pool.context_tokens
        )
    return ()


def route(
    need: ContextNeed, pools: Collection[Pool], endpoints: Sequence[Endpoint], rng: random.Random
) -> Decision | TooLong | NoEndpoint:
    """Order the endpoints that may serve `need`.

    Args:
        need: the request's prompt and output tokens.
        pools: the pools of the requested model.
        endpoints: every known endpoint, of any pool.
        rng: breaks ties between equally loaded endpoints.
    """
    fits = fitting_pools(need, pools)
    if not fits:
        return TooLong(need=need, largest_context_tokens=max((pool.context_tokens for pool in pools), default=0))
    is_missing = not any(endpoint.pool == fits[0][0].name and endpoint.accepts for endpoint in endpoints)
    healthy: list[Choice] = []
    suspect: list[Choice] = []
    for pool, output_tokens in fits:
        members = [endpoint for endpoint in endpoints if endpoint.pool == pool.name and endpoint.accepts]
        rng.shuffle(members)
        members.sort(key=lambda endpoint: endpoint.load)
        reason = _reason(need, pool, fits[0][0], output_tokens, is_missing=is_missing)
        for member in members:
            choice = Choice(endpoint=member, output_tokens=output_tokens, reason=reason)
            (suspect if member.is_suspect else healthy).append(choice)
    if not healthy and not suspect:
        return NoEndpoint(pools=tuple(pool.name for pool, _ in fits))
    return Decision(choices=(*healthy, *suspect))


def _reason(need: ContextNeed, pool: Pool, smallest: Pool, output_tokens: int, *, is_missing: bool) -> str:
    total = need.prompt_tokens + output_tokens
    sure = "" if need.count is CountKind.EXACT else f"{need.count.value} "
    size = f"prompt {sure}{need.prompt_tokens} + output {output_tokens} = {sure}{total} tokens"
    if total > pool.context_tokens:
        return f"{size}; {pool.name} is the largest pool and counts exactly (limit {pool.context_tokens})"
    if pool.name == smallest.name:
        return f"{size}; {pool.name} is the smallest pool that holds them (limit {pool.context_tokens})"
    why = "has no healthy replica" if is_missing else "was busy or failed"
    return f"{size}; {smallest.name} {why}, {pool.name} holds them too (limit {pool.context_tokens})"
