"""What the KV tier costs where it gains nothing: many requests that find nothing, and a Redis that is slow or gone.

Nothing is forced here: the replica asks where its own measurements say that it pays. What must not live here: what it
may cost (tests/integration/test_tier_costs.py).
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from cluster.core.tier.break_even import QUESTION_RATIO
from cluster.engine.tier import stats
from tests.tier_mishaps import Server
from tests.tier_proxy import Proxy
from tests.tier_replica import Answer, Ask, Replica, Setup, use_fork_server

BELOW, ABOVE, SLOW, AWAY = 70, 32, 8, 8
"""Requests of each part."""
WARM_UP = 3
LONG_TOKENS = range(12_000, 20_000)
BELOW_RATIO = 0.3
"""Of the length at which the replica would ask: far enough below for its measurements to move."""
FAR_S = 0.005
"""A Redis that takes so long for an answer, as one in another zone does: there is much below the break-even then."""
SLOW_S = 2.0
PATIENCE_S = 60.0
LOOKUPS = ("get", "getex", "exists", "expire")


class Trial:
    """One replica through all of it."""

    def __init__(self, model: str, folder: Path) -> None:
        self.chance = random.Random(5)
        self.server = Server(folder)
        self.proxy = Proxy(self.server.port)
        self.setup = Setup(
            folder=model,
            redis=f"cache_url: 'redis://127.0.0.1:{self.proxy.port}'",
            engine="batch_tokens: 4096, ",
            tier="host_gib: 0.1",
            context_tokens=32_768,
            answer_wait_s=None,
        )

    def ask(self, replica: Replica, tokens: int) -> Answer:
        ids = [self.chance.randrange(300, 7000) for _ in range(tokens)]
        (answer,) = replica.ask(Ask(ids=ids, output_tokens=1))
        return answer

    def long(self, replica: Replica) -> Answer:
        return self.ask(replica, self.chance.choice(LONG_TOKENS))

    def settle(self, replica: Replica) -> None:
        """Wait until everything that was to be stored is in Redis, or was dropped."""
        until_s = time.monotonic() + PATIENCE_S
        seen, same = -1, 0
        # A store is one pipeline of 8 blocks; ten looks without a new block mean that none is under way.
        while same < 10:
            assert time.monotonic() < until_s, "stores never end"
            self.ask(replica, 10)
            count = self.server.calls("set")
            same = same + 1 if count == seen else 0
            seen = count

    def part(self, replica: Replica, lengths: list[int]) -> dict[str, Any]:
        """These requests one after the other, and what the tier did and took meanwhile."""
        self.settle(replica)
        before, calls = replica.counts(), {name: self.server.calls(name) for name in (*LOOKUPS, "set")}
        answers = [self.ask(replica, tokens) for tokens in lengths]
        self.settle(replica)
        after = replica.counts()
        return {
            "requests": len(answers),
            "tokens": [min(lengths), max(lengths)],
            "cached": sum(answer.cached for answer in answers),
            "ttft_s": sum(answer.ttft_s for answer in answers),
            "ask_s": sum(answer.ask_s for answer in answers),
            "scheduler_s": after.get(stats.SCHEDULER_SECONDS, 0) - before.get(stats.SCHEDULER_SECONDS, 0),
            "calls": {name: self.server.calls(name) - count for name, count in calls.items()},
            **{name: after[name] - before[name] for name in ("asked", "below", "late", "down", "found")},
        }

    def asks_from(self, replica: Replica) -> int:
        """The prompt's length from which on the replica asks, by what it measured."""
        state = replica.counts()
        latency_s, speed = state["break_even_latency_s"], state["break_even_prefill_tokens_per_s"]
        return int(max(state["break_even_min_fetch_tokens"] or 0, latency_s / QUESTION_RATIO * speed))

    def run(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self.proxy.delay_s = FAR_S
        with Replica(self.setup) as replica:
            for _ in range(WARM_UP):
                self.long(replica)
            threshold = self.asks_from(replica)
            longest = min(int(threshold * BELOW_RATIO), LONG_TOKENS.start)
            lengths = [self.chance.randint(16, longest) for _ in range(BELOW)]
            result["below"] = {"asks_from": threshold, **self.part(replica, lengths)}
        self.proxy.delay_s = 0.0
        with Replica(self.setup) as replica:
            for _ in range(WARM_UP):
                self.long(replica)
            result["above"] = self.part(replica, [self.chance.choice(LONG_TOKENS) for _ in range(ABOVE)])
            self.proxy.delay_s = SLOW_S
            began_s = time.monotonic()
            result["slow"] = [self.long(replica).ask_s for _ in range(SLOW)]
            result["slow_s"] = time.monotonic() - began_s
            self.proxy.delay_s = 0.0
            self.server.kill()
            result["away"] = [self.long(replica).ask_s for _ in range(AWAY)]
            result["counts"] = replica.counts()
        return result


def main() -> None:
    trial = Trial(sys.argv[1], Path(sys.argv[2]))
    use_fork_server(trial.setup)
    sys.stdout.write(json.dumps(trial.run()) + "\n")


if __name__ == "__main__":
    main()
