"""An engine with the KV tier while Redis or the engine core fails at the worst moment; prints what came of it as JSON.

The replica reaches Redis through a proxy, so that a failure comes in the middle of a transfer and not by luck. What
must not live here: what is right (tests/integration/test_tier_faults.py).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.engine.tier import stats
from cluster.shared_memory import remove_shared_memory
from tests.tier_mishaps import Server, is_sound
from tests.tier_proxy import Proxy, Trigger
from tests.tier_replica import BLOCK_TOKENS, Ask, Replica, Setup, use_fork_server

BLOCKS = 40
MIDDLE_BYTES = 2_000_000
"""Of a prompt's 5 MB."""
USER, PASSWORD_ENV, PASSWORD = "tier", "TIER_TEST_PASSWORD", "a secret"
COMMANDS = ["+getex", "+get", "+set", "+expire", "+unlink", "+ping"]
PATIENCE_S = 30.0


def prompt(seed: int) -> Ask:
    made = random.Random(seed)
    return Ask(ids=[made.randrange(300, 7000) for _ in range(BLOCKS * BLOCK_TOKENS + 5)], salt="tenant")


class Trial:
    """One Valkey, one proxy, one replica at a time."""

    def __init__(self, model: str, folder: Path) -> None:
        self.server = Server(folder)
        self.allow()
        self.proxy = Proxy(self.server.port)
        self.setup = Setup(
            folder=model,
            redis=f"cache_url: 'redis://127.0.0.1:{self.proxy.port}', cache_user: {USER}, "
            f"cache_password_env: {PASSWORD_ENV}",
            tier="host_gib: 0.06",
            is_forced=True,
            env={PASSWORD_ENV: PASSWORD},
        )
        self.right: dict[int, list[int]] = {}

    def allow(self, commands: list[str] | None = None) -> None:
        """Give the tier's user these rights only; nobody but it may do without a password."""
        self.server.redis.acl_setuser(
            USER, enabled=True, reset=True, passwords=[f"+{PASSWORD}"], keys=["kvb:*"], commands=commands or COMMANDS
        )

    def outcome(self, replica: Replica, seed: int, act: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """What became of a request, during which something happens."""
        before = replica.counts()
        began_s = time.monotonic()
        replica.begin(prompt(seed))
        act()
        (answer,) = replica.end()
        took_s = time.monotonic() - began_s
        after = replica.counts()
        names = (stats.BAD_VALUES, stats.DROPPED, stats.FAILURES, stats.BLOCKS)
        return {
            "is_right": answer.tokens == self.right.setdefault(seed, answer.tokens),
            "cached_blocks": answer.cached // BLOCK_TOKENS,
            "took_s": took_s,
            "ttft_s": answer.ttft_s,
            "ask_s": answer.ask_s,
            **{name.removeprefix("vllm:redis_tier_"): after.get(name, 0) - before.get(name, 0) for name in names},
        }

    def stored(self, replica: Replica, seed: int) -> list[bytes]:
        """The prompt's keys, once all its blocks are in Redis and the answer without them is known."""
        self.outcome(replica, seed)
        keys = replica.keys(prompt(seed))
        self.until(lambda: int(self.server.redis.exists(*keys)) == len(keys))
        return keys

    def until(self, happens: Callable[[], bool]) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not happens():
            assert time.monotonic() < until_s, "it never happened"

    def usable(self, replica: Replica, seed: int) -> None:
        """Wait until the replica stores again; the prompts from `seed` on are used up for it."""
        numbers = iter(range(seed, seed + 10_000))

        def stores() -> bool:
            ask = Ask(ids=prompt(next(numbers)).ids[: BLOCK_TOKENS + 1])
            replica.ask(ask)
            return bool(self.server.redis.exists(*replica.keys(ask)))

        self.until(stores)

    def redis_faults(self, replica: Replica) -> dict[str, Any]:
        result: dict[str, Any] = {}
        keys = self.stored(replica, 1)
        self.server.redis.delete(keys[7])
        self.server.redis.lpush(keys[7], "not a string")
        assert replica.reset()
        result["wrong_type"] = self.outcome(replica, 1)
        self.until(lambda: is_sound(self.server, keys[7]))

        self.server.limit(int(self.server.redis.info("memory")["used_memory"]), policy="noeviction")
        result["full"] = [self.outcome(replica, seed) for seed in (2, 3)]
        assert replica.reset()
        result["full_load"] = self.outcome(replica, 1)
        self.server.limit(0)
        self.usable(replica, 1000)

        self.allow(["+ping"])
        assert replica.reset()
        result["no_rights"] = [self.outcome(replica, seed) for seed in (1, 4)]
        self.allow()
        assert replica.reset()
        result["rights_again"] = self.outcome(replica, 1)

        assert replica.reset()
        self.proxy.arm(Trigger(MIDDLE_BYTES, is_upwards=False, action=self.server.kill))
        result["killed_in_load"] = self.outcome(replica, 1)
        result["was_in_load"] = self.proxy.triggered.is_set()
        result["away"] = self.outcome(replica, 5)
        self.server.start()
        self.allow()
        self.usable(replica, 20_000)
        assert replica.reset()
        self.stored(replica, 1)
        assert replica.reset()
        result["back"] = self.outcome(replica, 1)
        return result

    def core_killed(self, replica: Replica, seed: int, *, is_upwards: bool) -> dict[str, Any]:
        """What the request that was under way says, and whether anything in Redis is broken."""
        pid = replica.core().pid
        self.proxy.arm(Trigger(MIDDLE_BYTES, is_upwards=is_upwards, action=lambda: os.kill(pid, signal.SIGKILL)))
        began_s = time.monotonic()
        error = ""
        try:
            replica.ask(prompt(seed))
            # The answer came first: the stores of a request may outlive it.
            replica.ask(prompt(seed + 1))
        except RuntimeError as raised:
            error = str(raised)
        took_s = time.monotonic() - began_s
        was_hit = self.proxy.triggered.wait(PATIENCE_S)
        remove_shared_memory(replica.kill())
        broken = [key for key in self.server.blocks() if not is_sound(self.server, key)]
        return {"error": error, "took_s": took_s, "was_hit": was_hit, "broken": len(broken)}

    def run(self) -> dict[str, Any]:
        with Replica(self.setup) as replica:
            result = self.redis_faults(replica)
            assert replica.reset()
            result["core_killed_in_load"] = self.core_killed(replica, 1, is_upwards=False)
        with Replica(self.setup) as replica:
            result["after_load_kill"] = self.outcome(replica, 1)
            result["core_killed_in_store"] = self.core_killed(replica, 30_000, is_upwards=True)
        with Replica(self.setup) as replica:
            result["after_store_kill"] = self.outcome(replica, 1)
        return result


def main() -> None:
    trial = Trial(sys.argv[1], Path(sys.argv[2]))
    use_fork_server(trial.setup)
    sys.stdout.write(json.dumps(trial.run()) + "\n")
    trial.server.stop()


if __name__ == "__main__":
    main()
