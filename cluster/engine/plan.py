"""What one replica is to be: decided before it starts, handed to it whole.

What must not live here: vLLM's names for things (cluster/engine/arguments.py) and how any value was chosen
(cluster/engine/settings.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.state.login import StateServer


class Accelerator(StrEnum):
    """What the engine computes on."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTierPlan:
    """KV blocks in Redis, and in the host's memory on the way there."""

    url: str
    user: str | None
    password_env: str | None
    password_file: str | None
    ca_file: str | None
    host_bytes: int
    """Over all ranks."""
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlan:
    """Every setting of a pool's replicas; Ray pickles it to them."""

    cluster: str
    pool: str
    model: str
    """The name clients use, and the engine's only name for it."""
    folder: str
    context_tokens: int
    tensor_parallel: int
    hosts: int
    """Over which the ranks spread evenly."""
    accelerator: Accelerator
    dtype: str
    quantization: str | None
    kv_cache_bytes: int | None
    """None leaves it to vLLM, which takes `gpu_memory_ratio` of the card."""
    gpu_memory_ratio: float
    max_running: int
    max_queued: int
    batch_tokens: int
    eager: bool
    stall_s: float
    drain_s: float
    tool_parser: str | None
    reasoning_parser: str | None
    sampling: dict[str, float | int]
    """Values for requests that give none."""
    lora: tuple[tuple[str, str], ...]
    """Adapter name and folder."""
    prefix_residency: bool
    """Whether to publish what the KV cache holds."""
    env: dict[str, str]
    extra_args: dict[str, Any]
    state_url: str | None = field(repr=False)
    replica_host: str
    """What the lease publishes: an address, or `node` for the Ray node's own."""
    cores: tuple[int, ...] = field(default=())
    """CPU only: the cores the engine's threads are bound to."""
    max_lora_rank: int = 64
    fast_start: bool = False
    """Whether the engine's processes are forked from a warm parent, see cluster/engine/warm."""
    redis_tier: RedisTierPlan | None = None
    revision: str = ""
    """What the lease calls these replicas, for canaries."""
    state_login: StateServer | None = None
    """How to log in at `state_url`: names of secrets, no secret. None: the address is all there is."""

    traces_endpoint: str | None = None
    """OTLP collector of vLLM's own spans; None: it makes none."""
    traces_protocol: str = "grpc"

    @property
    def state(self) -> str | StateServer | None:
        """What clients of the state store are made from."""
        return self.state_login or self.state_url

    @property
    def max_requests(self) -> int:
        """Requests a replica takes before it refuses."""
        return self.max_running + self.max_queued
