"""The plan in vLLM's words: its command line, and the environment its processes need.

What must not live here: choices (cluster/engine/settings.py), imports of vLLM.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.residency.sockets import EventSockets


def vllm_arguments(
    plan: ReplicaPlan, *, sockets: EventSockets | None = None, kv_transfer: dict[str, Any] | None = None
) -> list[str]:
    """Arguments for vLLM's own OpenAI server parser.

    `extra_args` of the pool come last and so win; underscores and dashes in their names mean the same, and false
    switches off what vLLM has on by default.

    Args:
        plan: what the replica is to be.
        sockets: where its engine tells what becomes of its KV cache; None for nowhere.
        kv_transfer: where KV blocks go besides the engine's own cache.
    """
    arguments: dict[str, Any] = {
        "model": plan.folder,
        "served-model-name": plan.model,
        "max-model-len": plan.context_tokens,
        "tensor-parallel-size": plan.tensor_parallel,
        "dtype": plan.dtype,
        "max-num-seqs": plan.max_running,
        "max-num-batched-tokens": plan.batch_tokens,
        # Inside a placement group vLLM would pick its ray executor for more than one rank, also on one host.
        "distributed-executor-backend": "mp" if plan.hosts == 1 else "ray",
        # The default pickles; this one is stable between processes and versions, as shared prefixes need.
        "prefix-caching-hash-algo": "sha256_cbor",
        # Requests without a priority all have the same, and are then served first come, first served.
        "scheduling-policy": "priority",
        "enable-prompt-tokens-details": True,
        "enable-auto-tool-choice": plan.tool_parser is not None,
        "tool-call-parser": plan.tool_parser,
        "reasoning-parser": plan.reasoning_parser,
        "enforce-eager": plan.eager,
        "quantization": plan.quantization,
        # vLLM takes it for each rank, and ranks share the KV heads.
        "kv-cache-memory-bytes": plan.kv_cache_bytes // plan.tensor_parallel if plan.kv_cache_bytes else None,
    }
    if plan.traces_endpoint is not None:
        arguments["otlp-traces-endpoint"] = plan.traces_endpoint
    if plan.accelerator is Accelerator.CUDA:
        arguments["gpu-memory-utilization"] = plan.gpu_memory_ratio
    if sockets is not None:
        arguments["kv-events-config"] = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": sockets.events,
            "replay_endpoint": sockets.replay,
        }
    if kv_transfer is not None:
        arguments["kv-transfer-config"] = kv_transfer
    if plan.sampling:
        arguments["override-generation-config"] = dict(plan.sampling)
    if plan.lora:
        arguments["enable-lora"] = True
        arguments["max-lora-rank"] = plan.max_lora_rank
        arguments["lora-modules"] = [f"{name}={path}" for name, path in plan.lora]
    for name, value in plan.extra_args.items():
        key = name.replace("_", "-")
        arguments[key] = value
        if value is False:
            arguments[f"no-{key}"] = True
    return [part for key, value in arguments.items() for part in _flag(key, value)]


def _flag(key: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{key}"]
    if isinstance(value, dict):
        return [f"--{key}", json.dumps(value)]
    if isinstance(value, (list, tuple)):
        return [f"--{key}", *map(str, value)]
    return [f"--{key}", str(value)]


def engine_environment(plan: ReplicaPlan) -> dict[str, str]:
    """Environment of the engine's processes; the pool's own `env` wins."""
    env = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Whole hashes in the events, not their low 64 bits.
        "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES": "0",
    }
    if plan.traces_endpoint is not None:
        env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = plan.traces_protocol
    if plan.accelerator is Accelerator.CPU and plan.cores:
        env["VLLM_CPU_OMP_THREADS_BIND"] = _thread_binding(plan.cores, plan.tensor_parallel)
    return env | plan.env


def _thread_binding(cores: tuple[int, ...], ranks: int) -> str:
    """Cores of each rank, ranks separated by `|`; vLLM by itself would keep one core free.

    With fewer cores than ranks, ranks share them.
    """
    if len(cores) < ranks:
        return "|".join(str(cores[rank % len(cores)]) for rank in range(ranks))
    share = len(cores) // ranks
    groups = [cores[rank * share : (rank + 1) * share] for rank in range(ranks - 1)]
    groups.append(cores[(ranks - 1) * share :])
    return "|".join(",".join(map(str, group)) for group in groups)
