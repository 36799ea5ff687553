"""The cluster, its models and its pools, as the configuration file has them.

What must not live here: what gateways do with them (gateway.py), secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cluster.config.base import ModelId, Name, Section
from cluster.core.autoscaling.target import ServiceLevel

MAX_CONTEXT_TOKENS = 16_777_216
MAX_REPLICAS = 1_000
SERVED_KEYS = (
    "replicas", "engine", "tensor_parallel", "hosts", "accelerator", "worker_group", "revision", "traffic",
    "autoscaling",
)  # fmt: skip
"""Of a pool that are about replicas of its own."""
MAX_REVISIONS = 8
"""That share one pool's requests: an upgrade has two, and each costs every decision a little."""
Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class ClusterSection(Section):
    """Which cluster this is, and how local mode reaches it."""

    name: Name = "local"
    ray_port: int = Field(default=6379, ge=0, le=65535, description="GCS port in local mode; 0 picks a free one")
    replica_host: str = Field(
        default="127.0.0.1",
        description="Address replicas publish in their lease; `node` means the Ray node's own, bound on all interfaces",
    )
    replica_port_min: int = Field(default=30000, ge=1024, le=60000, description="First direct-ingress port")


class SamplingSection(Section):
    """Sampling values used where a request gives none; they go over the catalog's own for the model."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=2)


class OutputSection(Section):
    """How many output tokens a request may ask for, and what one that says nothing gets."""

    default_tokens: int = Field(default=1024, ge=1, description="Output budget of a request without max_tokens")
    max_tokens: int | None = Field(default=None, ge=1, description="Cap: a request that asks for more is refused")
    grows: bool = Field(
        default=False,
        description="Place streams for default_tokens of output at most; longer ones go on in a larger pool",
    )

    @model_validator(mode="after")
    def _default_within_cap(self) -> Self:
        if self.max_tokens is not None and self.default_tokens > self.max_tokens:
            raise ValueError(f"default_tokens {self.default_tokens} is over max_tokens {self.max_tokens}")
        return self


class LoraSection(Section):
    """One LoRA adapter, requested by its name as the `model`."""

    name: ModelId
    path: str = Field(min_length=1, description="Folder of the adapter, on every node")


class ModelSection(Section):
    """A model that clients can ask for."""

    id: ModelId
    source: str | None = Field(
        default=None, description="Catalog id, hub id (org/name), or a folder; default: the id itself"
    )
    revision: str | None = None
    aliases: list[ModelId] = Field(default_factory=list)
    sampling: SamplingSection = SamplingSection()
    output: OutputSection = OutputSection()
    lora: list[LoraSection] = Field(default_factory=list)
    tool_parser: str | None = Field(default=None, description="vLLM tool-call parser; default: the catalog's")

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a client may put in `model`: the id, the aliases, the adapters."""
        return (self.id, *self.aliases, *(adapter.name for adapter in self.lora))


class ReplicasSection(Section):
    """How many replicas a pool runs."""

    min: int = Field(default=1, ge=0, le=MAX_REPLICAS, description="0: none while nobody asks")
    max: int = Field(default=1, ge=1, le=MAX_REPLICAS)

    @property
    def is_autoscaled(self) -> bool:
        """Whether their number follows the load."""
        return self.max > self.min

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is over max {self.max}")
        return self


class AutoscalingSection(Section):
    """What 95% of a pool's requests are to get: as many replicas run as that takes, within `replicas`."""

    ttft_s: float = Field(default=2, gt=0, le=3600, description="Time to the first token of a short prompt")
    ttft_s_per_1k_tokens: float = Field(
        default=0.25, ge=0, le=600, description="And more for each thousand tokens of a prompt"
    )
    itl_s: float = Field(default=0.1, gt=0, le=60, description="Mean time between two tokens of an answer")
    queue_age_s: float = Field(default=10, gt=0, le=3600, description="Longest wait for a turn")
    idle_s: float = Field(
        default=300,
        gt=0,
        le=86_400,
        description="Where replicas.min is 0: the last replica goes after so long without a request",
    )

    @property
    def level(self) -> ServiceLevel:
        """What is promised."""
        return ServiceLevel(
            ttft_s=self.ttft_s,
            ttft_s_per_1k_tokens=self.ttft_s_per_1k_tokens,
            itl_s=self.itl_s,
            queue_age_s=self.queue_age_s,
        )


class RedisTierSection(Section):
    """KV blocks of this pool in Redis, where every replica of the model finds them."""

    enabled: bool = Field(default=False, description="Outside local mode it needs redis.cache_url")
    host_gib: float | None = Field(default=None, gt=0, description="Host memory of a replica on the way to Redis")
    ttl_s: int = Field(default=86_400, ge=10, le=2_592_000, description="How long a block lives after its last use")


class EngineSection(Section):
    """Engine settings of a pool; what is left out is chosen from what the machine has."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    kv_cache_gib: float | None = Field(
        default=None,
        gt=0,
        description="KV cache of a replica; default on CPU: 1.25 contexts, on GPU: what gpu_memory_ratio leaves",
    )
    gpu_memory_ratio: float = Field(default=0.9, gt=0, le=1, description="GPU only: share of the card vLLM may take")
    max_running: int = Field(default=32, ge=1, le=4096, description="Sequences decoded together (max_num_seqs)")
    max_queued: int = Field(default=64, ge=0, le=100_000, description="Waiting in the replica before it refuses")
    batch_tokens: int | None = Field(default=None, ge=64, description="Tokens per step (max_num_batched_tokens)")
    eager: bool | None = Field(default=None, description="Skip compilation; default: true on CPU, false on GPU")
    fast_start: bool | None = Field(
        default=None, description="Fork the engine's processes from one that has imported vLLM; default: true on CPU"
    )
    stall_s: float | None = Field(
        default=None, ge=5, le=3600, description="Longest one engine step may take before the replica counts as dead"
    )
    drain_s: float = Field(default=600, ge=0, le=86_400, description="Longest a draining replica lets streams finish")
    prefix_residency: bool = Field(default=True, description="Tell the gateways which prompts are in the KV cache")
    redis_tier: RedisTierSection = RedisTierSection()
    env: dict[str, str] = Field(default_factory=dict, description="Extra environment of the engine's processes")
    extra_args: dict[str, Any] = Field(default_factory=dict, description="Further vLLM engine arguments, by their name")


class EndpointSection(Section):
    """A static member of a pool: any OpenAI-compatible engine."""

    url: str = Field(pattern=r"^https?://[^\s/]+(/.*)?$", description="Base URL, without /v1")
    model: str | None = Field(default=None, description="The model's name there; default: the same as here")
    api_key_env: str | None = Field(default=None, description="Environment variable that holds its API key")


class PoolSection(Section):
    """Replicas of one model with one context limit."""

    name: Name
    model: ModelId
    context_tokens: int = Field(ge=16, le=MAX_CONTEXT_TOKENS, description="Prompt plus output, per request")
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    hosts: int = Field(default=1, ge=1, le=16, description="Hosts that one replica's tensor_parallel ranks spread over")
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="What its engines compute on; auto: what the machine that submits the pool has"
    )
    worker_group: Name | None = Field(
        default=None, description="Ray worker group whose nodes run it (KubeRay's `groupName`); default: any node"
    )
    replicas: ReplicasSection = ReplicasSection()
    autoscaling: AutoscalingSection = AutoscalingSection()
    engine: EngineSection = EngineSection()
    resume: bool = Field(
        default=True,
        description="Whether a stream that is cut here may go on at another replica",
    )
    endpoints: list[EndpointSection] = Field(default_factory=list, description="Static members instead of replicas")
    revision: Name | None = Field(default=None, description="What this pool's replicas call themselves, for canaries")
    traffic: dict[Name, Weight] = Field(
        default_factory=dict,
        max_length=MAX_REVISIONS,
        description="Revision to weight: how the gateway divides requests where replicas of several revisions run",
    )

    @property
    def is_static(self) -> bool:
        """Whether the pool's members are listed here instead of run by Ray Serve."""
        return bool(self.endpoints)

    @property
    def has_tier(self) -> bool:
        """Whether its replicas keep KV blocks in Redis."""
        return not self.is_static and self.engine.redis_tier.enabled

    @model_validator(mode="after")
    def _static_or_served(self) -> Self:
        if self.endpoints:
            for key in SERVED_KEYS:
                if key in self.model_fields_set:
                    raise ValueError(f"{key} has no meaning in a pool with static endpoints: leave one of them out")
        return self

    @model_validator(mode="after")
    def _ranks_spread_evenly(self) -> Self:
        if self.hosts == 1:
            return self
        if self.accelerator == "cpu":
            raise ValueError("hosts: only replicas on GPUs can span hosts")
        if self.tensor_parallel % self.hosts:
            raise ValueError(f"tensor_parallel {self.tensor_parallel} must be a multiple of hosts {self.hosts}")
        if self.has_tier:
            raise ValueError("engine.redis_tier: replicas that span hosts run without it")
        return self

    @model_validator(mode="after")
    def _traffic_goes_somewhere(self) -> Self:
        if self.traffic and not any(self.traffic.values()):
            raise ValueError("traffic has no weight above 0: give one to a revision, or leave traffic out")
        return self


def neighbours(pools: Iterable[PoolSection]) -> tuple[tuple[PoolSection, PoolSection], ...]:
    """Pools of one model that follow each other in length and run replicas, the smaller one first."""
    ordered = sorted(pools, key=lambda pool: pool.context_tokens)
    return tuple(
        (smaller, larger)
        for smaller, larger in pairwise(ordered)
        if smaller.context_tokens < larger.context_tokens and not smaller.is_static and not larger.is_static
    )
