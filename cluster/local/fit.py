"""How many of a configuration's pools this machine can hold.

What lives here: the arithmetic, free of I/O. What must not: measuring the machine, telling people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.config import Config, PoolSection
from cluster.core.errors import SetupError
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.models.card import ModelCard

GIB = 2**30
ENGINE_BYTES = 2 * GIB
"""Three processes with torch imported, scratch memory of a step included (measured: 2.5 GB with a tiny model)."""
RANK_BYTES = GIB
"""Each further tensor-parallel rank is one more process."""
BASE_BYTES = int(1.2 * GIB)
"""Idle Ray and Serve (640 to 830 MB measured), Valkey with the state, and the gateway."""
CACHE_FACTOR = 1.1
"""A server for KV blocks takes this much more than its blocks: buffers of connections, and what the allocator keeps."""
FP32_FACTOR = 2
"""Cards give the size of 16-bit weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNeed:
    """What the replicas of one pool take, all together."""

    pool: str
    memory_bytes: int
    gpus: int
    uses_cache: bool = False
    """Whether it keeps KV blocks in the embedded server, which all such pools share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What there is to give out."""

    available_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Which pools run, and which do not."""

    kept: tuple[PoolNeed, ...]
    dropped: tuple[PoolNeed, ...]
    cache_bytes: int
    """Memory of the embedded server for KV blocks; 0 where none runs."""

    @property
    def needed_bytes(self) -> int:
        """Memory of everything that runs."""
        return BASE_BYTES + self.cache_bytes + sum(need.memory_bytes for need in self.kept)


def pool_need(pool: PoolSection, plan: ReplicaPlan, card: ModelCard, *, uses_cache: bool = False) -> PoolNeed:
    """What `pool` takes on this machine, by the plan of its replicas.

    Args:
        pool: of the configuration.
        plan: of its replicas.
        card: of its model.
        uses_cache: whether it keeps KV blocks in the embedded server.
    """
    replicas = pool.replicas.min
    ranks = (plan.tensor_parallel - 1) * RANK_BYTES + (plan.redis_tier.host_bytes if plan.redis_tier else 0)
    if plan.accelerator is Accelerator.CUDA:
        # Weights and KV are on the card, where vLLM checks for itself.
        memory_bytes = ENGINE_BYTES + ranks
        gpus = replicas * plan.tensor_parallel
        return PoolNeed(pool=pool.name, memory_bytes=replicas * memory_bytes, gpus=gpus, uses_cache=uses_cache)
    weights_bytes = card.weights_bytes * (FP32_FACTOR if plan.dtype == "float32" else 1)
    memory_bytes = weights_bytes + (plan.kv_cache_bytes or 0) + ENGINE_BYTES + ranks
    return PoolNeed(pool=pool.name, memory_bytes=replicas * memory_bytes, gpus=0, uses_cache=uses_cache)


def cache_server_bytes(config: Config) -> int:
    """What the embedded server for KV blocks takes once it is full."""
    return int(config.redis.cache_gib * GIB * CACHE_FACTOR)


def fit_pools(needs: Mapping[str, PoolNeed], config: Config, machine: Machine) -> Fit:
    """Keep pools, smallest context first, while they fit.

    Raises:
        SetupError: not even the first one fits.
    """
    kept: list[PoolNeed] = []
    dropped: list[PoolNeed] = []
    room_bytes = machine.available_bytes - BASE_BYTES
    gpus = machine.gpus
    cache_bytes = 0
    for pool in sorted(config.pools, key=lambda pool: pool.context_tokens):
        need = needs.get(pool.name)
        if need is None:
            continue  # a static pool runs elsewhere
        # The first pool that needs the server for KV blocks pays for it.
        added_bytes = cache_server_bytes(config) if need.uses_cache and not cache_bytes else 0
        if not dropped and need.memory_bytes + added_bytes <= room_bytes and need.gpus <= gpus:
            kept.append(need)
            room_bytes -= need.memory_bytes + added_bytes
            cache_bytes += added_bytes
            gpus -= need.gpus
        else:
            dropped.append(need)
    if dropped and not kept:
        raise _too_small(dropped[0], config, machine)
    return Fit(kept=tuple(kept), dropped=tuple(dropped), cache_bytes=cache_bytes)


def without_pools(config: Config, dropped: tuple[PoolNeed, ...]) -> Config:
    """The configuration without the pools that do not fit, and without models nobody serves then."""
    names = {need.pool for need in dropped}
    pools = [pool for pool in config.pools if pool.name not in names]
    served = {pool.model for pool in pools}
    models = [model for model in config.models if model.id in served]
    return config.model_copy(update={"pools": pools, "models": models})


def _too_small(need: PoolNeed, config: Config, machine: Machine) -> SetupError:
    if need.gpus > machine.gpus:
        return SetupError(
            f"pool {need.pool} needs {need.gpus} GPUs and this machine has {machine.gpus}",
            "lower tensor_parallel or replicas.min of that pool",
        )
    cache_bytes = cache_server_bytes(config) if need.uses_cache else 0
    gib = (need.memory_bytes + BASE_BYTES + cache_bytes) / GIB
    with_cache = f" ({cache_bytes / GIB:.1f} GiB of it for KV blocks in Valkey)" if cache_bytes else ""
    return SetupError(
        f"pool {need.pool} needs about {gib:.1f} GiB of memory{with_cache}, "
        f"{machine.available_bytes / GIB:.1f} GiB are available",
        "free some memory, choose a smaller model, or set a smaller engine.kv_cache_gib for that pool"
        + (" or a smaller redis.cache_gib" if cache_bytes else ""),
    )
