"""Tenants, and adapters of one name, that must not meet in any cache; prints what each request found as JSON.

What must not live here: what they should find (tests/integration/test_tier_isolation.py).
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from cluster.core.tier.salt import engine_salt
from cluster.engine.tier import stats
from tests.lora_adapter import write_adapter
from tests.tier_mishaps import Server, is_sound
from tests.tier_replica import BLOCK_TOKENS, Ask, Replica, Setup, use_fork_server

BLOCKS = 10
ADAPTER = "style"
OWNER = "tenant-a"
OTHERS = (None, "tenant-b", "tenant", "tenant-ab", "tenant-a ", "Tenant-a", engine_salt(OWNER, "0" * 32))
"""No salt, another one, the beginning of the owner's, one that begins with the owner's, and the like."""
STORED_S = 20.0


def prompt(seed: int) -> list[int]:
    made = random.Random(seed)
    return [made.randrange(300, 7000) for _ in range(BLOCKS * BLOCK_TOKENS + 5)]


class Trial:
    """The program's parts, over one Valkey."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.adapter = model, folder / "adapter"
        self.server = Server(folder)
        self.setup = Setup(
            folder=str(model),
            redis=f"cache_url: 'redis://127.0.0.1:{self.server.port}'",
            adapters=((ADAPTER, str(self.adapter)),),
            is_forced=True,
        )

    def find(self, replica: Replica, ask: Ask) -> dict[str, Any]:
        """What a request found."""
        before = replica.counts()
        (answer,) = replica.ask(ask)
        after = replica.counts()
        loaded, bad = (after.get(name, 0) - before.get(name, 0) for name in (stats.READ_BYTES, stats.BAD_VALUES))
        return {
            "salt": ask.salt,
            "tokens": answer.tokens,
            "cached": answer.cached,
            "loaded": int(loaded / after["payload_bytes"]),
            "bad": int(bad),
        }

    def stored(self, replica: Replica, ask: Ask) -> dict[str, Any]:
        """As `find`; returns when Redis has the prompt's blocks."""
        before = len(self.server.blocks())
        found = self.find(replica, ask)
        keys = replica.keys(ask) if ask.adapter is None else []
        until_s = time.monotonic() + STORED_S
        while not (self.server.redis.exists(*keys) if keys else len(self.server.blocks()) - before) >= BLOCKS:
            assert time.monotonic() < until_s, "the blocks never came to Redis"
        return found

    def tenants(self, replica: Replica) -> dict[str, Any]:
        own = Ask(ids=prompt(1), salt=OWNER)
        result: dict[str, Any] = {"owner_first": self.stored(replica, own), "owner_again": self.find(replica, own)}
        # All three caches have it: the engine's, the host's, and Redis.
        result["others"] = [self.find(replica, Ask(ids=own.ids, salt=salt)) for salt in OTHERS]
        own = Ask(ids=prompt(2), salt=OWNER)
        self.stored(replica, own)
        assert replica.reset()
        result["others_in_redis"] = [self.find(replica, Ask(ids=own.ids, salt=salt)) for salt in OTHERS]
        assert replica.reset()
        result["owner_in_redis"] = self.find(replica, own)
        return result

    def copied(self, replica: Replica) -> dict[str, Any]:
        """Somebody who may write to Redis copies one tenant's values to where another's would be."""
        own, other = Ask(ids=prompt(3), salt=OWNER), Ask(ids=prompt(3), salt="tenant-b")
        first = self.stored(replica, own)
        mine, theirs = replica.keys(own), replica.keys(other)
        for source, target in zip(mine, theirs, strict=True):
            assert self.server.redis.copy(source, target)
        found = self.find(replica, other)
        kept = [key for key in theirs if self.server.redis.exists(key) and not is_sound(self.server, key)]
        return {"owner": first, "other": found, "kept": len(kept)}

    def adapters(self) -> dict[str, Any]:
        ask = Ask(ids=prompt(4), salt=OWNER, adapter=ADAPTER)
        result: dict[str, Any] = {}
        for name, seed in (("old", 7), ("new", 8), ("old_again", 7)):
            write_adapter(self.adapter, self.model, seed)
            with Replica(self.setup) as replica:
                if name == "old":
                    result |= {"tenants": self.tenants(replica), "copied": self.copied(replica)}
                    result["base"] = self.stored(replica, Ask(ids=ask.ids, salt=OWNER))
                result[name] = (self.find if name == "old_again" else self.stored)(replica, ask)
        return result


def main() -> None:
    model, folder = map(Path, sys.argv[1:])
    trial = Trial(model, folder)
    use_fork_server(trial.setup)
    sys.stdout.write(json.dumps(trial.adapters()) + "\n")
    trial.server.stop()


if __name__ == "__main__":
    main()
