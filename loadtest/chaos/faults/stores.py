"""The two Redis servers: gone, slow, wrong.

What must not live here: what a cached block is made of (cluster/core/tier).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from redis.asyncio import Redis

from cluster.core.tier.keys import EVERYTHING
from cluster.local.stores import CACHE_PROCESS, STATE_PROCESS
from loadtest.chaos.asking import Asker
from loadtest.chaos.fault import Fault, Told
from loadtest.chaos.kinds import KINDS
from loadtest.chaos.supervised import Supervised
from loadtest.chaos.target import ChaosError, Target, redis_at

AWAY_S = 15.0
"""Longer than a lease lives."""
PAUSE_MS = 2_000
SLOW_S = 20.0
WRONG_S = 20.0
BAD_VALUES = "vllm:redis_tier_bad_values"
_LONG = next(kind for kind in KINDS if kind.name == "document")
SPOILT_TOKENS = 45_000
"""Of each: shorter ones, a model this small computes faster than it fetches them."""
DOCUMENTS = [
    replace(_LONG, body={**_LONG.body, "prompt": [word] * SPOILT_TOKENS, "max_tokens": 8}) for word in range(200, 204)
]
"""Together more than the long pool's replicas keep by themselves."""


async def kill_stores(target: Target) -> None:
    """Both servers, empty when they come back."""
    servers = [Supervised(target.run_dir, name) for name in (STATE_PROCESS, CACHE_PROCESS)]
    for server in servers:
        await server.kill()
    await asyncio.sleep(AWAY_S)
    for server in servers:
        server.start()
    await target.whole()


async def slow_stores(target: Target) -> None:
    """Every command waits up to two seconds, on both servers."""
    async with redis_at(target.state_url) as state, redis_at(_cache(target)) as cache:
        ends_s = time.monotonic() + SLOW_S
        while time.monotonic() < ends_s:
            await asyncio.gather(*(client.client_pause(PAUSE_MS) for client in (state, cache)))
            await asyncio.sleep(PAUSE_MS / 1000)
    await target.whole()


async def spoil_cache(target: Target) -> Told:
    """Turn a bit in the middle of every value among the KV blocks, once each, as long as it lasts.

    Documents are asked before and after, more of them than the engines themselves keep, so that spoilt blocks are read.
    """
    asker = Asker(target.url, target.grpc_address)
    spoilt: dict[bytes, bytes] = {}
    try:
        bad = await target.replicas_total(BAD_VALUES)
        right = [await asker.ask(document) for document in DOCUMENTS]
        ends_s = time.monotonic() + WRONG_S
        async with redis_at(_cache(target)) as client:
            await _spoil(client, spoilt)
            again = [await asker.ask(document) for document in DOCUMENTS]
            while time.monotonic() < ends_s:
                await _spoil(client, spoilt)
                await asyncio.sleep(1)
        found = await target.replicas_total(BAD_VALUES) - bad
    finally:
        await asker.close()
    wrong = sum((one.end, one.ids) != (other.end, other.ids) for one, other in zip(right, again, strict=True))
    targets = (
        ("there was no block in Redis to spoil", bool(spoilt)),
        (f"{wrong} of {len(DOCUMENTS)} documents answered otherwise", wrong == 0),
        ("no replica read a spoilt block", found > 0),
    )
    return Told(
        notes=[f"{len(spoilt)} blocks spoilt, {found:g} times one was read and not used"],
        missed=[text for text, is_met in targets if not is_met],
    )


async def _spoil(client: Redis, spoilt: dict[bytes, bytes]) -> None:
    async for key in client.scan_iter(match=EVERYTHING, count=1000):
        value = await client.get(key)
        if not isinstance(value, bytes) or not value or spoilt.get(key) == value:
            continue
        middle = len(value) // 2
        wrong = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
        # Only where it is still there: else it would come back, and without an end.
        if await client.set(key, wrong, keepttl=True, xx=True):
            spoilt[key] = wrong


def _cache(target: Target) -> str:
    if target.cache_url is None:
        raise ChaosError("the cluster has no server for KV blocks")
    return target.cache_url


FAULTS = (
    Fault(name="redis-killed", does="kill -9 of both Redis servers, back and empty after 15 s", run=kill_stores),
    Fault(name="redis-slow", does="every Redis command waits up to 2 s, for 20 s", run=slow_stores),
    Fault(name="cache-corrupted", does="a bit turned in every KV block in Redis, for 20 s", run=spoil_cache),
)
