"""Streams of long prompts whose replica is killed: the other one loads the prompt from Redis, or computes it again.

Both in turns on one cluster: where the blocks are to be missing, Redis is emptied before the kill. What must not live
here: tables (report.py).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from rich.console import Console

from cluster.environment import Environment
from cluster.local.interrupt import run
from loadtest.chaos.answer import Answer, End
from loadtest.chaos.asking import Asker
from loadtest.chaos.kinds import Kind
from loadtest.chaos.target import ChaosError, Target, redis_at
from loadtest.own_cluster import own_cluster
from loadtest.prefix.progress import Watcher

CLUSTER = "bench-resume"
POOL = "bench"
MODEL = "bench-model"
REPLICAS = 2
ROOM_TOKENS = 1_024
"""Beyond the prompt, for the answer."""
OUTPUT_TOKENS = 128
WARM_TOKENS = 1_024
"""A replica that has computed nothing yet fetches nothing: it does not know what is faster (tier/break_even.py)."""
TOKENS_BEFORE_KILL = 8
FIRST_LIMIT_S = 600.0
STORED_LIMIT_S = 60.0
STEADY_LOOKS = 10
"""So often in a row Redis holds as many keys as before: the prompt's blocks are all there."""
WORDS = range(1_000, 9_000)
"""Token ids of ordinary text pieces, in vocabularies of tens of thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    model: str
    prompt_tokens: int
    rounds: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One stream that was cut."""

    from_redis: bool
    ttft_s: float
    """Of the same request, nothing cached."""
    pause_s: float
    """Between the last token of the replica that died and the next one."""
    cached_tokens: int
    """Of the prompt, that the replica which went on did not compute."""


def configuration(plan: Plan, *, port_min: int) -> dict[str, Any]:
    """The configuration file, as data."""
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": MODEL, "source": plan.model}],
        "pools": [
            {
                "name": POOL,
                "model": MODEL,
                "context_tokens": plan.prompt_tokens + ROOM_TOKENS,
                "replicas": {"min": REPLICAS, "max": REPLICAS},
                "engine": {"redis_tier": {"enabled": True}},
            }
        ],
        "gateway": {"host": "127.0.0.1", "port": 0},
    }


def measure_resume(plan: Plan, *, environment: Environment, console: Console, watcher: Watcher) -> list[Pause]:
    """Start the cluster and cut streams.

    Raises:
        SetupError: this machine cannot run it, or another bench is at work.
        ChaosError: a stream did not go on.
        InterruptedBySignal: after everything has been taken down again.
    """

    def write(folder: Path, port_min: int) -> Mapping[str, Any]:
        del folder
        return configuration(plan, port_min=port_min)

    purpose = "`longreach bench resume`"
    with own_cluster(CLUSTER, write, purpose=purpose, environment=environment, console=console) as own:
        target = Target(
            cluster=CLUSTER,
            counts={POOL: REPLICAS},
            url=own.url,
            config_file=own.config_file,
            run_dir=own.run_dir,
            environment=environment,
        )
        return run(_measure(target, plan, watcher))


async def _measure(target: Target, plan: Plan, watcher: Watcher) -> list[Pause]:
    rng = random.Random(plan.seed)  # noqa: S311 - repeatable prompts
    found, killed = [], ""
    watcher.begins("streams cut", 2 * plan.rounds)
    async with AsyncExitStack() as stack:
        asker = Asker(target.url, target.grpc_address)
        stack.push_async_callback(asker.close)
        assert target.cache_url is not None
        cache = await stack.enter_async_context(redis_at(target.cache_url))
        for number in range(plan.rounds):
            order = (True, False) if number % 2 == 0 else (False, True)
            for from_redis in order:
                watcher.step("the prompt in Redis" if from_redis else "Redis empty")
                await target.whole(without=killed)
                await asyncio.gather(*(asker.ask(_document(WARM_TOKENS, 1, rng)) for _ in range(REPLICAS)))
                kind = _document(plan.prompt_tokens, OUTPUT_TOKENS, rng)
                pause, killed = await _cut(target, asker, cache, kind, from_redis=from_redis)
                found.append(pause)
    watcher.ends()
    return found


async def _cut(target: Target, asker: Asker, cache: Redis, kind: Kind, *, from_redis: bool) -> tuple[Pause, str]:
    """The pause, and who was killed."""
    await cache.flushall()
    answer = Answer(kind=kind.name, sent_s=time.monotonic())
    asking = asyncio.create_task(asker.fill(answer, kind))

    async def has_begun() -> bool:
        return asking.done() or len(answer.ids) >= TOKENS_BEFORE_KILL

    await target.until(has_begun, limit_s=FIRST_LIMIT_S, what="the stream's first tokens")
    await _stored(target, cache)
    pids = {replica.replica_id: replica.pid for replica in await target.replicas()}
    if answer.replica not in pids or asking.done():
        raise ChaosError(f"the stream was over before it could be cut: {answer.end} {answer.detail}")
    ttft_s, so_far = (answer.first_s or 0.0) - answer.sent_s, answer.longest_gap_s
    if not from_redis:
        await cache.flushall()
    os.kill(pids[answer.replica], signal.SIGKILL)
    await asking
    if answer.end is not End.COMPLETE or answer.longest_gap_s <= so_far:
        raise ChaosError(f"the stream did not go on: {answer.end} {answer.detail}")
    pause = Pause(
        from_redis=from_redis, ttft_s=ttft_s, pause_s=answer.longest_gap_s, cached_tokens=answer.cached_tokens
    )
    return pause, answer.replica


async def _stored(target: Target, cache: Redis) -> None:
    sizes: list[int] = []

    async def is_steady() -> bool:
        sizes.append(await cache.dbsize())
        return sizes[-1] > 0 and sizes[-STEADY_LOOKS:] == [sizes[-1]] * STEADY_LOOKS

    await target.until(is_steady, limit_s=STORED_LIMIT_S, what="the prompt's blocks in Redis")


def _document(prompt_tokens: int, output_tokens: int, rng: random.Random) -> Kind:
    body = {
        "model": MODEL, "prompt": rng.choices(WORDS, k=prompt_tokens), "max_tokens": output_tokens,
        "temperature": 0.0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }  # fmt: skip
    return Kind(name="document", path="/v1/completions", body=body)
