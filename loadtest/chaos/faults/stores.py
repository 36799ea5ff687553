"""The two Redis servers: gone, slow, wrong.

What must not live here: what a cached block is made of (cluster/core/tier).
"""

from __future__ import annotations

import asyncio
import time

from redis.asyncio import Redis

from cluster.core.tier.keys import EVERYTHING
from cluster.local.stores import CACHE_PROCESS, STATE_PROCESS
from loadtest.chaos.fault import Fault
from loadtest.chaos.supervised import Supervised
from loadtest.chaos.target import PATIENT_S, ChaosError, Target

AWAY_S = 15.0
"""Longer than a lease lives."""
PAUSE_MS = 2_000
SLOW_S = 20.0
WRONG_S = 20.0
"""As long as documents come whose blocks were spoilt."""


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
    clients = [Redis.from_url(url, socket_timeout=PATIENT_S) for url in (target.state_url, _cache(target))]
    try:
        ends_s = time.monotonic() + SLOW_S
        while time.monotonic() < ends_s:
            await asyncio.gather(*(client.client_pause(PAUSE_MS) for client in clients))
            await asyncio.sleep(PAUSE_MS / 1000)
    finally:
        for client in clients:
            await client.aclose()
    await target.whole()


async def spoil_cache(target: Target) -> None:
    """Turn a bit in the middle of every value among the KV blocks, again and again."""
    client = Redis.from_url(_cache(target), socket_timeout=PATIENT_S)
    spoilt = 0
    try:
        ends_s = time.monotonic() + WRONG_S
        while time.monotonic() < ends_s:
            async for key in client.scan_iter(match=EVERYTHING, count=1000):
                value = await client.get(key)
                if isinstance(value, bytes) and value:
                    middle = len(value) // 2
                    wrong = value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
                    await client.set(key, wrong, keepttl=True)
                    spoilt += 1
            await asyncio.sleep(1)
    finally:
        await client.aclose()
    if not spoilt:
        raise ChaosError("there was no block in Redis to spoil")


def _cache(target: Target) -> str:
    if target.cache_url is None:
        raise ChaosError("the cluster has no server for KV blocks")
    return target.cache_url


FAULTS = (
    Fault(name="redis-killed", does="kill -9 of both Redis servers, back and empty after 15 s", run=kill_stores),
    Fault(name="redis-slow", does="every Redis command waits up to 2 s, for 20 s", run=slow_stores),
    Fault(name="cache-corrupted", does="a bit turned in every KV block in Redis, for 20 s", run=spoil_cache),
)
