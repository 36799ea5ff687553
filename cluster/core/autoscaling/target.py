"""What is promised, and what the policy answers.

What must not live here: the policy (policy.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.core.lease import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLevel:
    """What 95% of a pool's requests are to get."""

    ttft_s: float = 2.0
    """Time to the first token of a short prompt."""
    ttft_s_per_1k_tokens: float = 0.25
    """And more for each thousand tokens of its prompt."""
    itl_s: float = 0.1
    """Mean time between two tokens of an answer."""
    queue_age_s: float = 10.0
    """The longest a request may wait for its turn."""

    def ttft_limit_s(self, prompt_tokens: float) -> float:
        """Time to the first token of a prompt of that length."""
        return self.ttft_s + self.ttft_s_per_1k_tokens * prompt_tokens / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an operator wants of one pool."""

    min_replicas: int
    max_replicas: int
    level: ServiceLevel = ServiceLevel()
    idle_s: float = 300.0
    """A pool whose least is 0 goes to none after so long without a request: the next one waits for a whole start."""
    pinned: int | None = None
    """So many, whatever the load."""


class Bound(StrEnum):
    """What decided."""

    PREFILL = "prefill"
    DECODE = "decode"
    KV = "kv"
    QUEUE_AGE = "queue_age"
    HELD = "held"
    """Requests are held for a pool without replicas."""
    IDLE = "idle"
    """No request for so long that not even one replica is kept."""
    MIN = "min"
    MAX = "max"
    PINNED = "pinned"
    HYSTERESIS = "hysteresis"
    """Fewer would do, but not for long enough yet."""
    UNKNOWN = "unknown"
    """Nothing is known yet: what there is stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How many replicas a pool should have, and why."""

    pool: PoolName
    at_s: float
    """`PoolDemand.now_s` of what it is about."""
    replicas: int
    current: int
    """Those there are, on their way included."""
    needed_now: float
    """Replicas that the work at hand would fill."""
    needed_ahead: float
    """The same when a replica ordered now would serve."""
    bound: Bound
    reason: str
    """For people, in one sentence."""
