"""Which pools hold a request, by context length, and what output each grants.

What lives here: the pool as routing sees it, and the context-fit rule. What must not: endpoints, load.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter

from cluster.core.lease import PoolName
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing.traffic import Share

ESTIMATE_ERROR_RATIO = 2.0
"""How far an estimate may lie over the truth: before a model has taught anything, up to twice (cluster/core/budget)."""
ANY_LENGTH = 2**53
"""No preference: more tokens than any pool's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as routing sees it."""

    name: PoolName
    model: str
    context_tokens: int
    verifies: bool = True
    """Its members count the prompt themselves and refuse what does not fit; foreign engines may cut it silently."""
    shares: tuple[Share, ...] = ()
    """How its requests are divided among revisions; empty: not at all."""
    prefers_tokens: int = ANY_LENGTH
    """Requests that are likely longer go to a larger pool first, though it holds them. It is no limit: nobody counts
    tokens for it."""


def fitting_pools(need: ContextNeed, pools: Collection[Pool]) -> tuple[tuple[Pool, int], ...]:
    """The pools that hold `need`, each with the output tokens it grants, in the order to try them; empty: none does.

    That is smallest first; where the smallest prefers shorter requests, pools that do come last.
    """
    ordered = sorted(pools, key=_size)
    total_tokens = need.total_tokens
    fits = tuple([(pool, need.output_tokens) for pool in ordered if total_tokens <= pool.context_tokens])
    if fits:
        prefers_tokens = fits[0][0].prefers_tokens
        # A bound on a short prompt may be many times its length, which is enough to know that it fits.
        if total_tokens <= prefers_tokens or need.likely_total_tokens <= prefers_tokens:
            return fits
        return _preferring(need.likely_total_tokens, fits)
    return _largest_after_all(need, ordered)


_size = attrgetter("context_tokens", "prefers_tokens", "name")


def _preferring(likely_tokens: int, fits: tuple[tuple[Pool, int], ...]) -> tuple[tuple[Pool, int], ...]:
    """With those that prefer shorter requests last; the largest take what nobody prefers."""
    largest_tokens = fits[-1][0].context_tokens
    reluctant = [
        (pool, output_tokens)
        for pool, output_tokens in fits
        if pool.prefers_tokens < likely_tokens and pool.context_tokens < largest_tokens
    ]
    return (*(fit for fit in fits if fit not in reluctant), *reluctant)


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
