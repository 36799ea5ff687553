"""What has come for each pool and what was answered, as the autoscaler wants it counted.

What must not live here: where requests go.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.core.autoscaling import Arrivals
from cluster.core.lease import PoolName
from cluster.core.request import ContextNeed
from cluster.core.routing import Decision, NoEndpoint, Saturated


class ArrivalCounts:
    """A request counts for the smallest pool that holds it, wherever it goes, and once."""

    def __init__(self, pools: Iterable[PoolName]) -> None:
        self._counts = {pool: [0, 0, 0, 0, 0] for pool in pools}
        """Requests, prompt tokens to compute, prompt tokens cached, answers, their tokens."""

    def came(self, need: ContextNeed, decision: Decision | NoEndpoint | Saturated) -> PoolName:
        """Count a request by its first decision; for which pool it came."""
        if isinstance(decision, Decision):
            home, cached_tokens = next(iter(decision.first.case.fits)), decision.first.resident_tokens
        else:
            home, cached_tokens = decision.pools[0], 0
        counts = self._counts[home]
        counts[0] += 1
        counts[1] += max(need.expected_prompt_tokens - cached_tokens, 0)
        counts[2] += cached_tokens
        return home

    def ended(self, home: PoolName, output_tokens: int) -> None:
        """One of those that came for a pool has its answer."""
        counts = self._counts[home]
        counts[3] += 1
        counts[4] += output_tokens

    def of(self, pool: PoolName) -> Arrivals:
        """All so far."""
        requests, prefill_tokens, cached_tokens, answers, output_tokens = self._counts[pool]
        return Arrivals(
            requests=requests,
            prefill_tokens=prefill_tokens,
            cached_tokens=cached_tokens,
            answers=answers,
            output_tokens=output_tokens,
        )
