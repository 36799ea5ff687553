"""The production core with a boundary that follows the traffic: one between each two neighbouring pools.

The rule is cluster/core/boundary; here it is told what came and how fast the pools are, as production tells it. What
must not live here: the rule, routing (production.py).
"""

from __future__ import annotations

from itertools import pairwise

from cluster.core.autoscaling import PoolSpeed, ServiceLevel
from cluster.core.boundary import AdaptiveBoundary, Boundary, LivePool, decide_live
from cluster.core.boundary.record import ROUND_S
from cluster.core.capacity.step import prefill_pairs
from cluster.core.lease import PoolName
from cluster.simulator.cluster import ClusterSpec, PoolSpec
from cluster.simulator.production import ProductionRouter
from cluster.simulator.router import Report

USUAL_BATCH = 8.0
"""What a pool is taken to run until something came."""
MEMORY_RATIO = 0.005
"""Weight of the newest request in a pool's means: the last two hundred count, of which a few are very long."""


class _Pace:
    """How fast one pool is with what it serves, as its meters would have measured it: work done over time taken."""

    __slots__ = ("_decode_s", "_output_tokens", "_pool", "_prefill_s", "_prefill_tokens", "batch", "replicas")

    def __init__(self, pool: PoolSpec) -> None:
        cost = pool.replica.cost
        self._pool = pool
        self.replicas = 0
        self.batch = USUAL_BATCH
        self._prefill_tokens, self._prefill_s = 1.0, cost.token_s
        self._output_tokens, self._decode_s = 1.0, cost.token_s

    def served(self, *, prompt_tokens: int, prefill_tokens: int, output_tokens: int) -> None:
        """A request has ended."""
        cost = self._pool.replica.cost
        pairs = prefill_pairs(max(prompt_tokens - prefill_tokens, 0), prompt_tokens)
        context_s = cost.context_token_s * (prompt_tokens + output_tokens / 2)
        decode_s = output_tokens * (cost.token_s + cost.sequence_s + context_s)
        prefill_s = cost.request_s + prefill_tokens * cost.token_s + pairs * cost.attention_s
        self._prefill_s += MEMORY_RATIO * (prefill_s - self._prefill_s)
        self._prefill_tokens += MEMORY_RATIO * (prefill_tokens - self._prefill_tokens)
        self._decode_s += MEMORY_RATIO * (decode_s - self._decode_s)
        self._output_tokens += MEMORY_RATIO * (output_tokens - self._output_tokens)

    def reported(self, running: int) -> None:
        """A replica of it told how many it runs."""
        self.batch += MEMORY_RATIO * (max(running, 1) - self.batch)

    def live(self) -> LivePool:
        """For the rule, as `SpeedMeter` would have told it."""
        replica = self._pool.replica
        fixed_s, further_s = replica.cost.base_s + replica.cost.weights_s, self._decode_s / self._output_tokens
        speed = PoolSpeed(
            prefill_tokens_per_s=self._prefill_tokens / self._prefill_s,
            decode_tokens_per_s=self.batch / (fixed_s + self.batch * further_s),
            decode_sequences=self.batch,
            kv_tokens=replica.kv_tokens,
            max_running=replica.max_running,
            decode_alone_s=fixed_s + further_s,
        )
        return LivePool(self.replicas, speed)


class AdaptiveRouter(ProductionRouter):
    """`ProductionRouter`, told every now and then which lengths its pools should prefer."""

    def __init__(self, cluster: ClusterSpec, *, level: ServiceLevel) -> None:
        """A gateway that knows nobody yet.

        Args:
            cluster: its pools, two or more.
            level: what is promised.

        Raises:
            ValueError: there is one pool, so no boundary.
        """
        super().__init__(cluster)
        ordered = sorted(cluster.pools, key=lambda pool: pool.context_tokens)
        if len(ordered) == 1:
            raise ValueError("one pool has no boundary")
        self._paces = {pool.name: _Pace(pool) for pool in ordered}
        self._boundaries = {
            (smaller.name, larger.name): AdaptiveBoundary(limit_tokens=smaller.context_tokens, level=level)
            for smaller, larger in pairwise(ordered)
        }
        self._decide_s = 0.0
        self._prefills: dict[int, int] = {}
        self._pool_names: dict[int, PoolName] = {}
        self.moves: list[tuple[float, PoolName, Boundary]] = []
        """Every change, by time."""

    @property
    def name(self) -> str:
        """As `Router` says."""
        return f"{super().name}, adaptive"

    def joined(self, replica: int, pool: PoolName) -> None:
        """As `Router` says."""
        self._pool_names[replica] = pool
        self._paces[pool].replicas += 1
        super().joined(replica, pool)

    def left(self, replica: int) -> None:
        """As `Router` says."""
        self._paces[self._pool_names[replica]].replicas -= 1
        super().left(replica)

    def reported(self, report: Report) -> None:
        """As `Router` says."""
        self._paces[report.pool].reported(report.running)
        super().reported(report)

    def arrived(self, number: int) -> None:
        """As `Router` says."""
        if self._desk.now_s >= self._decide_s:
            self._decide_s = self._desk.now_s + ROUND_S
            self._decide()
        super().arrived(number)

    def answered(self, number: int, replica: int) -> None:
        """As `Router` says."""
        self._prefills[number] = self._cases[number].prefill_tokens
        super().answered(number, replica)

    def ended(self, number: int, replica: int) -> None:
        """As `Router` says: what it was is known now."""
        request = self._desk.request(number)
        prefill_tokens = self._prefills.pop(number, request.prompt_tokens)
        self._paces[self._pool_names[replica]].served(
            prompt_tokens=request.prompt_tokens, prefill_tokens=prefill_tokens, output_tokens=request.output_tokens
        )
        for boundary in self._boundaries.values():
            boundary.work.add(
                self._desk.now_s,
                need_tokens=self._cases[number].need.likely_total_tokens,
                prefill_tokens=prefill_tokens,
                output_tokens=request.output_tokens,
            )
        super().ended(number, replica)

    def _decide(self) -> None:
        preferences: dict[PoolName, int] = {}
        for (smaller, larger), boundary in self._boundaries.items():
            found = decide_live(boundary, self._desk.now_s, self._paces[smaller].live(), self._paces[larger].live())
            assert found is not None  # speeds are known from the start here
            preferences[smaller] = found.tokens
            latest = next((known for _, name, known in reversed(self.moves) if name == smaller), None)
            if latest is None or latest.tokens != found.tokens:
                self.moves.append((self._desk.now_s, smaller, found))
        self.prefer(preferences)
