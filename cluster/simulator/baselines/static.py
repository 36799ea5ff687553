"""Pools by length with a fixed boundary and nothing else: no spill, no reserve, no prefixes.

What must not live here: where the boundary is (the cluster's description).
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.core.lease import PoolName
from cluster.simulator.baselines.shared import LeastRequest, Watched
from cluster.simulator.outcome import Fate


class StaticPools(LeastRequest):
    """Each request to the smallest pool that holds it, there to the fewest requests."""

    name = "static-pools"

    def __init__(self, limits: Mapping[PoolName, int]) -> None:
        """Take the pools.

        Args:
            limits: prompt and output of the longest request that each takes.
        """
        super().__init__()
        self._limits = dict(sorted(limits.items(), key=lambda entry: entry[1]))

    def fitting(self, number: int) -> list[Watched]:
        """As `BaselineRouter` says."""
        pool = self._home(number)
        return [watched for watched in self.replicas if watched.pool == pool]

    def arrived(self, number: int) -> None:
        """As `Router` says."""
        if self._home(number) is None:
            self.desk.refuse(number, Fate.TOO_LONG)
        else:
            super().arrived(number)

    def _home(self, number: int) -> PoolName | None:
        request = self.desk.request(number)
        need = request.prompt_tokens + request.output_tokens
        return next((pool for pool, limit in self._limits.items() if need <= limit), None)
