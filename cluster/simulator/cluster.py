"""What is simulated: pools, their replicas, what replicas can do, and what goes wrong.

What must not live here: where the numbers come from (a configuration file, a catalog of cards, measurements).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from cluster.core.autoscaling import Target
from cluster.core.capacity.step import StepCost
from cluster.core.lease import PoolName

BLOCK_TOKENS = 16
"""vLLM gives KV cache out in blocks of this size; CPU engines take larger ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """What one replica can do."""

    cost: StepCost
    kv_tokens: int
    """Tokens whose KV cache it holds."""
    max_running: int = 128
    """Sequences in its batch (`max_num_seqs`)."""
    max_queued: int = 64
    """Requests it lets wait beyond those before it refuses (`engine.max_queued`)."""
    batch_tokens: int = 8192
    """Tokens of one step (`max_num_batched_tokens`)."""
    long_prefill_tokens: int = 0
    """Most tokens that one prompt may have of a step while others are there, so that short prompts pass it
    (`long_prefill_token_threshold`); 0: as many as there are, vLLM's default and ours."""
    block_tokens: int = BLOCK_TOKENS
    entry_s: float = 0.0
    """From the gateway to the engine's queue and back, for any request: HTTP, template, processes."""
    entry_token_s: float = 0.0
    """And more for each prompt token: tokenizing."""

    def __post_init__(self) -> None:
        if self.batch_tokens < self.max_running:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is under max_running {self.max_running}: "
                "a step could not give every sequence a token; raise it"
            )
        if self.kv_tokens < self.block_tokens:
            raise ValueError(f"kv_tokens {self.kv_tokens} is not even one block of {self.block_tokens}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Replicas of one kind."""

    name: PoolName
    context_tokens: int
    """Prompt and output of the longest request it takes."""
    replica: ReplicaSpec
    replicas: int
    """At the beginning, ready to serve."""
    startup_s: float = 60.0
    """From the order of a replica to its first request."""
    gpus: float = 1.0
    """Cards of one replica, for GPU hours."""
    target: Target | None = None
    """What the autoscaler may do with it; None leaves it as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A replica dies, with everything it has, and another is started in its place."""

    at_s: float
    pool: PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """The gateway's configuration, where it matters here; defaults are those of the configuration file."""

    policy: str = "balanced"
    """`gateway.routing.policy`."""
    reserve_ratio: float = 0.25
    queue_s: float = 30.0
    """Longest wait for a free replica (`limits.queue_s`)."""
    queued_requests: int = 1024
    request_s: float = 3600.0
    """Every request's deadline (`limits.request_s`)."""
    attempts: int = 2
    retry_ratio: float = 0.2
    default_output_tokens: int = 1024
    """What a request is taken to ask for that gets no more (`models[].output.default_tokens`); longer ones ask."""
    is_adaptive: bool = False
    """Whether boundaries between pools follow the traffic (`routing.boundary`)."""
    has_exact_lengths: bool = False
    """Whether prompts' lengths are known at once, instead of being estimated from text as in production."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Everything that is simulated beside the trace."""

    pools: tuple[PoolSpec, ...]
    gateway: GatewaySpec = GatewaySpec()
    failures: tuple[Failure, ...] = field(default=())
    """By time."""
    autoscale_every_s: float | None = None
    """How often the autoscaler is asked; None: never."""

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if not names or len(set(names)) != len(names):
            raise ValueError("a cluster needs one pool or more, each with a name of its own")
        if any(earlier.at_s > later.at_s for earlier, later in pairwise(self.failures)):
            raise ValueError("failures must be in order of time")

    def pool(self, name: PoolName) -> PoolSpec:
        """The pool of this name.

        Raises:
            KeyError: there is none.
        """
        for pool in self.pools:
            if pool.name == name:
                return pool
        raise KeyError(name)
