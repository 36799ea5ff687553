"""From configuration, model and machine to a plan: every value the operator left out is chosen here.

Numbers behind the choices are in docs/performance.md and the shared facts they were measured for. What must not live
here: vLLM's own names, starting anything.
"""

from __future__ import annotations

from dataclasses import replace

from cluster.config import Config, PoolSection
from cluster.core.errors import SetupError
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.tier.settings import redis_tier_plan
from cluster.models.card import Dtype, ModelCard
from cluster.state.login import state_server

GIB = 2**30
CPU_KV_CONTEXTS = 1.25
"""Without a setting, a CPU replica's KV cache holds this many full contexts: one in flight, some prefix left over."""
CPU_KV_MIN_BYTES = GIB
CPU_BATCH_TOKENS = 1024
"""Tokens a CPU step prefills: about two seconds at the 0.5B model's 469 tokens/s, so that streams in the same replica
keep moving and the engine's heartbeat stays readable."""
GPU_BATCH_TOKENS = 8192
CPU_STALL_S = 120.0
"""A step of 1,024 tokens far into a long context, while another replica shares the cores, can take a minute."""
GPU_STALL_S = 30.0
NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""With one of these, bf16 decodes 1.4 and prefills 2.7 times as fast as fp32; without, it is emulated and slower."""


def replica_plan(
    config: Config, pool: PoolSection, *, card: ModelCard, folder: str, state_url: str | None, hardware: Hardware
) -> ReplicaPlan:
    """The plan for `pool`'s replicas.

    Args:
        config: the whole configuration.
        pool: one of its pools, not a static one.
        card: what is known of the pool's model.
        folder: where its weights are on every node.
        state_url: the state Redis; None runs without leases, for tests of the engine alone. At the configuration's
            own address replicas log in as it says.
        hardware: the machine the replicas will run on.

    Raises:
        SetupError: the pool wants a GPU, and here is none.
    """
    if pool.accelerator == "cpu":
        # Every machine has one, so this is the operator's choice, whatever else the machine has.
        hardware = replace(hardware, accelerator=Accelerator.CPU)
    elif pool.accelerator == "cuda" and hardware.accelerator is not Accelerator.CUDA:
        raise SetupError(
            f"pool {pool.name} wants accelerator cuda, and no NVIDIA device is here",
            "name another worker_group, or accelerator: cpu; on Kubernetes, look whether the pod asks for GPUs",
        )
    model = config.model(pool.model)
    engine = pool.engine
    on_cpu = hardware.accelerator is Accelerator.CPU
    sampling = card.sampling.given() | model.sampling.model_dump(exclude_none=True)
    stall_s = engine.stall_s if engine.stall_s is not None else (CPU_STALL_S if on_cpu else GPU_STALL_S)
    dtype = _dtype(engine.dtype, hardware)
    batch_tokens = engine.batch_tokens or (CPU_BATCH_TOKENS if on_cpu else GPU_BATCH_TOKENS)
    server = state_server(config.redis)
    return ReplicaPlan(
        cluster=config.cluster.name,
        pool=pool.name,
        model=model.id,
        folder=folder,
        context_tokens=pool.context_tokens,
        tensor_parallel=pool.tensor_parallel,
        hosts=pool.hosts,
        accelerator=hardware.accelerator,
        dtype=dtype,
        quantization=engine.quantization,
        kv_cache_bytes=_kv_cache_bytes(pool, card, dtype, hardware),
        gpu_memory_ratio=engine.gpu_memory_ratio,
        max_running=engine.max_running,
        max_queued=engine.max_queued,
        # vLLM does not start with fewer tokens in a step than sequences.
        batch_tokens=max(min(batch_tokens, pool.context_tokens), engine.max_running),
        eager=engine.eager if engine.eager is not None else on_cpu,
        # vLLM's ray executor, which spans hosts, starts its workers through Ray.
        fast_start=(engine.fast_start if engine.fast_start is not None else on_cpu) and pool.hosts == 1,
        stall_s=stall_s,
        drain_s=engine.drain_s,
        tool_parser=model.tool_parser or card.tool_parser,
        reasoning_parser=card.reasoning_parser,
        sampling=sampling,
        lora=tuple((adapter.name, adapter.path) for adapter in model.lora),
        prefix_residency=engine.prefix_residency,
        env=dict(engine.env),
        extra_args=dict(engine.extra_args),
        state_url=state_url,
        state_login=server if server is not None and server.url == state_url else None,
        replica_host=config.cluster.replica_host,
        cores=hardware.cores if on_cpu else (),
        redis_tier=redis_tier_plan(config, pool, context_kv_bytes=_context_kv_bytes(pool, card, dtype)),
        revision=pool.revision or "",
        traces_endpoint=config.telemetry.traces.vllm_endpoint,
        traces_protocol=config.telemetry.traces.protocol or "grpc",
    )


def _dtype(wanted: str, hardware: Hardware) -> str:
    if wanted != "auto" or hardware.accelerator is Accelerator.CUDA:
        return wanted
    return "auto" if hardware.cpu_flags & NATIVE_BF16_FLAGS else "float32"


def _kv_cache_bytes(pool: PoolSection, card: ModelCard, dtype: str, hardware: Hardware) -> int | None:
    if pool.engine.kv_cache_gib is not None:
        return int(pool.engine.kv_cache_gib * GIB)
    if hardware.accelerator is Accelerator.CUDA:
        return None
    return max(CPU_KV_MIN_BYTES, int(_context_kv_bytes(pool, card, dtype) * CPU_KV_CONTEXTS))


def _context_kv_bytes(pool: PoolSection, card: ModelCard, dtype: str) -> int:
    used = card.dtype if dtype == "auto" else Dtype(dtype)
    return pool.context_tokens * (card.kv_bytes_per_token * used.size_bytes // card.dtype.size_bytes)
