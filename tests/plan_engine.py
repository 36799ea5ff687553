"""One CPU engine that says how many KV blocks it has, then serves until its standard input ends.

A program of its own, as tests/tier_engine.py. What must not live here: what the number should be
(tests/integration/test_plan_engine.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import uvicorn

from cluster.config import parse_config
from cluster.engine.arguments import engine_environment
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator
from cluster.engine.settings import replica_plan
from cluster.models.catalog import find
from tests.tier_engine import use_fork_server

BATCH_TOKENS = 1_024


async def run(model: str, folder: str, kv_gib: str) -> None:
    from cluster.engine.vllm_engine import start_engine

    config = parse_config(
        f"models: [{{id: {model}}}]\n"
        f"pools: [{{name: short, model: {model}, context_tokens: 8192, accelerator: cpu, engine: {{dtype: bfloat16, "
        f"kv_cache_gib: {kv_gib}, batch_tokens: {BATCH_TOKENS}, prefix_residency: false}}}}]\n"
    )
    card = find(model)
    assert card is not None
    cores = tuple(sorted(os.sched_getaffinity(0)))
    hardware = Hardware(accelerator=Accelerator.CPU, cores=cores, cpu_flags=frozenset(), memory_bytes=1 << 34)
    plan = replica_plan(config, config.pools[0], card=card, folder=folder, state_url=None, hardware=hardware)
    os.environ.update(engine_environment(plan))
    engine = await start_engine(plan)
    cache: Any = engine._engine.vllm_config.cache_config
    server = uvicorn.Server(uvicorn.Config(engine.app, host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    said = {"blocks": cache.num_gpu_blocks, "block_tokens": cache.block_size, "port": port}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving
    engine.shutdown()


if __name__ == "__main__":
    use_fork_server()
    asyncio.run(run(*sys.argv[1:4]))
