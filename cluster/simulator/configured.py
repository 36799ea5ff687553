"""From a configuration file, a kind of GPU and perhaps a calibration to the cluster that is simulated.

What must not live here: speeds (cluster/planner), reading files.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.config import Config, PoolSection
from cluster.core.autoscaling import Target
from cluster.core.capacity import running_limit
from cluster.core.errors import SetupError
from cluster.core.lease import PoolName
from cluster.gpus import GpuSpec
from cluster.models.card import ModelCard
from cluster.models.need import model_need
from cluster.planner.shapes import MeasuredCost, Shape, shapes_of
from cluster.simulator.cluster import BLOCK_TOKENS, ClusterSpec, GatewaySpec, PoolSpec, ReplicaSpec

GIB = 2**30
AUTOSCALE_EVERY_S = 1.0
"""How often the autoscaler is asked. Production's control loop asks more often, with demand that is as old as this."""
STARTUP_S = 60.0
"""Of a replica, where nobody said: 50 to 110 s were measured on CPU."""
CPU_BLOCK_TOKENS = 128
"""vLLM's KV blocks on CPU."""
DEFAULT_GPUS = 8
DEFAULT_SHORT_TOKENS = 32_768
DEFAULT_LONG_SHARE = 0.25
"""The last two as cluster/core/capacity divides equal cards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast replicas are, and what is taken of their start."""

    gpu: GpuSpec
    measured: MeasuredCost | None = None
    overhead_s: float = 0.0
    """Of a request, beside the engine's steps."""
    startup_s: float = STARTUP_S


def default_cluster(card: ModelCard, speed: Speed) -> ClusterSpec:
    """Eight cards: six for contexts up to 32k, two for the model's own.

    Raises:
        SetupError: the model does not fit on one card.
    """
    shape = _shape(card, speed, ranks=1, memory_ratio=0.9)
    long = round(DEFAULT_GPUS * DEFAULT_LONG_SHARE)
    limits = ((PoolName("short"), DEFAULT_SHORT_TOKENS, DEFAULT_GPUS - long), (PoolName("long"), 0, long))
    pools = []
    for name, limit, replicas in limits:
        context_tokens = min(limit or shape.context_tokens, shape.context_tokens)
        shorter_tokens = 0 if limit else DEFAULT_SHORT_TOKENS
        running = running_limit(
            held_tokens=shape.kv_tokens, context_tokens=context_tokens, shorter_tokens=shorter_tokens
        )
        replica = ReplicaSpec(
            cost=shape.cost,
            kv_tokens=shape.kv_tokens,
            max_running=running,
            batch_tokens=shape.batch_tokens,
            block_tokens=_block_tokens(speed),
            entry_s=speed.overhead_s,
        )
        pools.append(
            PoolSpec(
                name=name,
                context_tokens=context_tokens,
                replica=replica,
                replicas=replicas,
                startup_s=speed.startup_s,
            )
        )
    return ClusterSpec(pools=tuple(pools))


def configured_cluster(config: Config, card: ModelCard, speed: Speed) -> ClusterSpec:
    """The pools of a configuration that serve its first model, on cards of one kind; they begin with `replicas.min`.

    Args:
        config: the file.
        card: of its first model.
        speed: of replicas.

    Raises:
        SetupError: no pool of the first model runs replicas, or one does not fit on the cards.
    """
    model = config.models[0]
    sections = [pool for pool in config.pools if pool.model == model.id and not pool.is_static]
    if not sections:
        raise SetupError(
            f"no pool of {model.id} runs replicas, and static endpoints are not simulated",
            "name a configuration with pools of its first model",
        )
    routing, limits = config.gateway.routing, config.gateway.limits
    pools = tuple(_pool(section, card, speed) for section in sections)
    return ClusterSpec(
        pools=pools,
        gateway=GatewaySpec(
            policy=routing.policy,
            reserve_ratio=routing.reserve_ratio,
            queue_s=limits.queue_s,
            queued_requests=limits.queued_requests,
            request_s=limits.request_s,
            attempts=limits.attempts,
            retry_ratio=limits.retry_ratio,
            default_output_tokens=model.output.default_tokens,
            is_adaptive=any(smaller.model == model.id for smaller, _ in config.boundaries),
        ),
        autoscale_every_s=AUTOSCALE_EVERY_S if any(pool.target is not None for pool in pools) else None,
    )


def _pool(section: PoolSection, card: ModelCard, speed: Speed) -> PoolSpec:
    engine, bounds = section.engine, section.replicas
    shape = _shape(card, speed, ranks=section.tensor_parallel, memory_ratio=engine.gpu_memory_ratio)
    kv_tokens = shape.kv_tokens
    if engine.kv_cache_gib is not None:
        kv_tokens = int(engine.kv_cache_gib * GIB) // model_need(card).kv_bytes_per_token
    if kv_tokens < section.context_tokens:
        raise SetupError(
            f"pool {section.name}: a replica on {section.tensor_parallel} x {speed.gpu.name} holds {kv_tokens:,} "
            f"tokens of KV cache, fewer than context_tokens {section.context_tokens:,}",
            "lower context_tokens, raise tensor_parallel, or name a larger --gpu",
        )
    replica = ReplicaSpec(
        cost=shape.cost,
        kv_tokens=kv_tokens,
        max_running=engine.max_running,
        max_queued=engine.max_queued,
        batch_tokens=max(min(engine.batch_tokens or shape.batch_tokens, section.context_tokens), engine.max_running),
        block_tokens=_block_tokens(speed),
        entry_s=speed.overhead_s,
    )
    return PoolSpec(
        name=PoolName(section.name),
        context_tokens=section.context_tokens,
        replica=replica,
        replicas=bounds.min,
        startup_s=speed.startup_s,
        gpus=section.tensor_parallel,
        target=Target(min_replicas=bounds.min, max_replicas=bounds.max) if bounds.max > bounds.min else None,
    )


def _shape(card: ModelCard, speed: Speed, *, ranks: int, memory_ratio: float) -> Shape:
    shapes = shapes_of(
        card, model_need(card), speed.gpu, most_ranks=ranks, memory_ratio=memory_ratio, measured=speed.measured
    )
    shape = next((one for one in shapes if one.ranks == ranks), None)
    if shape is None or shape.kv_tokens < BLOCK_TOKENS:
        raise SetupError(
            f"{card.id} does not run on {ranks} x {speed.gpu.name}",
            f"`longreach plan --model {card.id} --gpu {speed.gpu.name}` says what it takes",
        )
    return shape


def _block_tokens(speed: Speed) -> int:
    return CPU_BLOCK_TOKENS if speed.gpu.is_cpu else BLOCK_TOKENS
