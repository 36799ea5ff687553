"""Which pool, then which endpoint: pools by context length, endpoints by load.

The rule, in words. A pool fits when prompt plus output is within its context limit. The smallest pool that fits is
preferred; a larger one serves when the smaller has nobody to serve. A request that named no output length gets the
operator's default, and where no pool holds that, what the largest pool leaves free. Within a pool the least loaded
endpoint comes first; equals are shuffled. What must not live here: I/O, clocks, randomness that is not passed in.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import ContextNeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as routing sees it."""

    name: PoolName
    model: str
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Something that can take a request: a replica with a lease, or a static engine."""

    replica_id: ReplicaId
    pool: PoolName
    url: str
    accepts: bool
    """False while draining or found unreachable."""
    load: int
    """Requests it has, running and waiting."""


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
    if fits or need.is_explicit or not ordered:
        return fits
    largest = ordered[-1].context_tokens
    room = largest - need.prompt_tokens
    return tuple((pool, room) for pool in ordered if pool.context_tokens == largest and room >= 1)


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
    smallest = fits[0][0]
    choices: list[Choice] = []
    for pool, output_tokens in fits:
        members = [endpoint for endpoint in endpoints if endpoint.pool == pool.name and endpoint.accepts]
        rng.shuffle(members)
        members.sort(key=lambda endpoint: endpoint.load)
        reason = _reason(need, pool, smallest, output_tokens)
        choices += [Choice(endpoint=member, output_tokens=output_tokens, reason=reason) for member in members]
    if not choices:
        return NoEndpoint(pools=tuple(pool.name for pool, _ in fits))
    return Decision(choices=tuple(choices))


def _reason(need: ContextNeed, pool: Pool, smallest: Pool, output_tokens: int) -> str:
    total = need.prompt_tokens + output_tokens
    size = f"prompt {need.prompt_tokens} + output {output_tokens} = {total} tokens"
    if pool.name == smallest.name:
        return f"{size}; {pool.name} is the smallest pool that holds them (limit {pool.context_tokens})"
    return f"{size}; {smallest.name} has no healthy replica, {pool.name} holds them too (limit {pool.context_tokens})"
