"""Two engines of the tiny model one after the other, with nothing in common but Redis; prints what each did as JSON.

A program of its own: vLLM's processes come from a fork server that has imported it, which no test runner should become.
What must not live here: what the outcome should be (tests/integration/test_tier_engine.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from redis import Redis

from cluster.config import parse_config
from cluster.core.tier.keys import block_key, tag_of
from cluster.engine.arguments import engine_environment
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator
from cluster.engine.settings import replica_plan
from cluster.engine.tier import asking
from cluster.engine.tier.link import ENGINE_ID, REGION, PromptHashes
from cluster.shared_memory import SHARED_MEMORY
from tests.unit.engine.plans import card

PROMPT_TOKENS = int(os.environ.get("TIER_PROMPT_TOKENS", "12000"))
OUTPUT_TOKENS = 24
RANKS = int(os.environ.get("TIER_RANKS", "1"))
"""Tensor parallel."""
PRELOAD = [
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.executor.multiproc_executor",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.model_loader",
    "cluster.engine.tier.manager",
    "cluster.engine.tier.spec",
]
SALT = "tenant-a"


def use_fork_server() -> None:
    """As the shared facts have it: an engine in 9 s and not in 38."""
    import multiprocessing
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()
    import vllm.utils.system_utils as system

    def get_context() -> Any:
        return context

    system.get_mp_context = get_context
    system._maybe_force_spawn = lambda: None
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("vllm") and hasattr(module, "get_mp_context"):
            module.get_mp_context = get_context  # type: ignore[attr-defined]


def prompt(seed: int) -> list[int]:
    made = random.Random(seed)
    return [made.randrange(300, 7000) for _ in range(PROMPT_TOKENS)]


async def ask(engine: Any, name: str, ids: list[int], *, salt: str | None = SALT) -> dict[str, Any]:
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input

    params = SamplingParams(max_tokens=OUTPUT_TOKENS, temperature=0.0, ignore_eos=True)
    began_s = time.monotonic()
    first_s, cached, out = 0.0, None, None
    source = tokens_input(ids, cache_salt=salt)
    spent_s = engine._tier.asking.counts.ask_s
    async for out in engine._engine.generate(source, params, name):
        if cached is None:
            first_s, cached = time.monotonic() - began_s, out.num_cached_tokens
    assert out is not None
    spent_s = engine._tier.asking.counts.ask_s - spent_s
    return {"tokens": list(out.outputs[0].token_ids), "cached": cached or 0, "ttft_s": first_s, "ask_s": spent_s}


async def blocks(redis: Redis, count: int) -> None:
    """Wait until so many blocks are in Redis."""
    until_s = time.monotonic() + 20
    while len(list(redis.scan_iter("kvb:*:*:*", count=1000))) < count:
        if time.monotonic() > until_s:
            raise TimeoutError(f"{len(list(redis.scan_iter('kvb:*:*:*')))} of {count} blocks in Redis")
        await asyncio.sleep(0.05)


async def run(folder: Path, port: int) -> dict[str, Any]:
    from cluster.engine.vllm_engine import start_engine

    cores = tuple(sorted(os.sched_getaffinity(0)))
    config = parse_config(
        f"models: [{{id: tiny}}]\nredis: {{cache_url: 'redis://127.0.0.1:{port}'}}\n"
        f"pools: [{{name: short, model: tiny, context_tokens: 32768, tensor_parallel: {RANKS}, "
        "engine: {dtype: float32, kv_cache_gib: 0.25, "
        "batch_tokens: 4096, redis_tier: {enabled: true, host_gib: 0.1}}}]\n"
    )
    hardware = Hardware(accelerator=Accelerator.CPU, cores=cores, cpu_flags=frozenset(), memory_bytes=1 << 34)
    plan = replica_plan(config, config.pools[0], card=card(), folder=str(folder), state_url=None, hardware=hardware)
    os.environ.update(engine_environment(plan))
    redis = Redis(port=port)
    others = regions()
    result: dict[str, Any] = {}
    per_prompt = (PROMPT_TOKENS + OUTPUT_TOKENS - 1) // 128
    engine = await start_engine(plan)
    for number, name in enumerate(("whole", "corrupt", "stopped")):
        result[f"cold_{name}"] = await ask(engine, name, prompt(number))
        await blocks(redis, (number + 1) * per_prompt)
    result["local"] = await ask(engine, "local", prompt(0))
    result["first"] = counts(engine)
    engine.shutdown()

    engine = await start_engine(plan)
    result["redis_whole"] = await ask(engine, "whole", prompt(0))
    result["other_tenant"] = await ask(engine, "other", prompt(0), salt="tenant-b")
    before = lookups(redis)
    result["short"] = await ask(engine, "short", prompt(9)[:100])
    result["short_lookups"] = lookups(redis) - before
    hashes = PromptHashes(engine._tier._hasher, engine._tier._block_tokens, prompt(1), SALT, None).upto(50)
    fingerprint = engine._tier.asking._facts.fingerprint
    victim = block_key(fingerprint, tag_of(SALT), hashes[40] + bytes(4))
    assert redis.exists(victim)
    redis.setrange(victim, 5000, b"\x00" * 5000)
    result["redis_corrupt"] = await ask(engine, "corrupt", prompt(1))
    pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        result["redis_stopped"] = await ask(engine, "stopped", prompt(2))
        result["redis_stopped_again"] = await ask(engine, "again", prompt(3))
    finally:
        os.kill(pid, signal.SIGCONT)
    result["second"] = counts(engine)
    result["abouts"] = abouts(redis)
    result["regions"] = sorted(regions() - others)
    engine.shutdown()
    result["regions_after"] = sorted(regions() - others)
    return result


def regions() -> set[str]:
    return {path.name for path in SHARED_MEMORY.glob(f"{REGION}{ENGINE_ID}*")}


def abouts(redis: Redis) -> list[dict[str, Any]]:
    texts = [json.loads(redis.get(key)) for key in redis.scan_iter("kvb:*:about-*", count=1000)]
    return [{name: text[name] for name in ("model", "pool", "block_tokens")} for text in texts]


def lookups(redis: Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_expire", {"calls": 0})["calls"])


def counts(engine: Any) -> dict[str, Any]:
    made = engine._tier.asking
    return {
        "asked": made.counts.asked,
        "found": made.counts.found,
        "below": made.counts.below,
        "late": made.counts.late,
        "state": str(made.break_even.state()),
        "tier": engine._tier.totals,
        "metrics": metrics(),
    }


def metrics() -> dict[str, float]:
    """What this process shows at /metrics of the tier."""
    from prometheus_client import REGISTRY

    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith(("longreach_tier_", "vllm:redis_tier_"))
    }


def main() -> None:
    # A busy machine must not turn into a late answer; what one costs has a test of its own.
    asking.ANSWER_WAIT_MIN_S = asking.ANSWER_WAIT_MAX_S = float(os.environ.get("TIER_ANSWER_WAIT_S", "1.0"))
    use_fork_server()
    sys.stdout.write(json.dumps(asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))) + "\n")


if __name__ == "__main__":
    main()
