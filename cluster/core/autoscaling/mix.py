"""What a pool's requests are like: prompt, output, reuse, their part of a KV cache, how many run.

Means over many requests or over minutes, where traffic.py follows what changes within seconds. What must not live here:
rates.
"""

from __future__ import annotations

import math

from cluster.core.autoscaling.demand import Arrivals, PoolDemand

MEMORY_REQUESTS = 1_000
"""Lengths and reuse are means over about so many: by the spread of prompt lengths in Mooncake's conversations such a
mean is 3% off (standard error); fewer would make it a random walk, more would follow a change later."""
MEMORY_S = 60.0
"""What runs, and what it holds, are means over about so long: many short answers, and one long one."""


class Mix:
    """One pool's. The same demand told again changes nothing."""

    def __init__(self) -> None:
        self._last: tuple[float, Arrivals] | None = None
        self._requests = self._answers = self._output_tokens = self._prefill_tokens = self._cached_tokens = 0.0
        self._seconds = self._running_s = self._kv_s = 0.0

    def add(self, demand: PoolDemand) -> bool:
        """Take in a demand; whether a request has come since the last."""
        now, last = demand.arrivals, self._last
        self._last = demand.now_s, now
        if last is None:
            return now.requests > 0
        before_s, before = last
        self._stood(demand, demand.now_s - before_s)
        self._came(
            requests=max(now.requests - before.requests, 0),
            prefill_tokens=max(now.prefill_tokens - before.prefill_tokens, 0),
            cached_tokens=max(now.cached_tokens - before.cached_tokens, 0),
        )
        self._ended(
            answers=max(now.answers - before.answers, 0),
            output_tokens=max(now.output_tokens - before.output_tokens, 0),
        )
        return now.requests > before.requests

    @property
    def prefill_tokens_per_request(self) -> float:
        """0: not known yet."""
        return self._prefill_tokens / self._requests if self._requests > 0 else 0.0

    @property
    def output_tokens_per_request(self) -> float:
        """0: not known yet."""
        return self._output_tokens / self._answers if self._answers > 0 else 0.0

    @property
    def reuse_ratio(self) -> float:
        """Part of the prompts' tokens that was found in caches: how likely what is held will be read again."""
        read = self._cached_tokens + self._prefill_tokens
        return self._cached_tokens / read if read > 0 else 0.0

    @property
    def running(self) -> float:
        """Sequences in the engines."""
        return self._running_s / self._seconds if self._seconds > 0 else 0.0

    @property
    def kv_ratio_per_sequence(self) -> float:
        """Part of one replica's KV cache that a sequence takes; 0: not known."""
        return self._kv_s / self._running_s if self._running_s > 0 else 0.0

    def _came(self, *, requests: int, prefill_tokens: int, cached_tokens: int) -> None:
        kept = math.exp(-requests / MEMORY_REQUESTS)
        self._requests = self._requests * kept + requests
        self._prefill_tokens = self._prefill_tokens * kept + prefill_tokens
        self._cached_tokens = self._cached_tokens * kept + cached_tokens

    def _ended(self, *, answers: int, output_tokens: int) -> None:
        kept = math.exp(-answers / MEMORY_REQUESTS)
        self._answers = self._answers * kept + answers
        self._output_tokens = self._output_tokens * kept + output_tokens

    def _stood(self, demand: PoolDemand, seconds: float) -> None:
        kept = math.exp(-seconds / MEMORY_S)
        self._seconds = self._seconds * kept + seconds
        self._running_s = self._running_s * kept + seconds * demand.running
        self._kv_s = self._kv_s * kept + seconds * demand.ready * demand.kv_use_ratio
