"""Conversations over an engine with the KV tier while Redis and the replica fail; prints what came of it as JSON.

The same prompts went through an engine without any prefix cache before, one after the other: that is what "right" is.
What must not live here: how much of it is enough (tests/integration/test_tier_equality.py).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from cluster.engine.tier import stats
from cluster.shared_memory import remove_shared_memory
from tests.tier_conversations import Case, cases
from tests.tier_mishaps import Server, damage, is_sound, lose
from tests.tier_replica import BLOCK_TOKENS, TINY_BLOCK_BYTES, Answer, Ask, Replica, Setup, use_fork_server

CONTEXT_TOKENS = 4096
ENGINE_BLOCKS = 72
"""Two of the longest prompts, so that the engine evicts all the time."""
HOST_BLOCKS = 200
RESET_RATIO = 0.2
MISHAPS = ("restart", "damage", "lose", "damage", "flush")
"""In this order, some in every round but the first; then the next, over and over."""
MORE_MISHAPS = ("damage", "damage", "lose")
MISHAPS_A_ROUND = 2
SQUEEZE_RATIO = 0.9
"""In the middle of the last round Redis gets this share of the memory that it used before."""
BACK_S = 30.0
"""The breaker's pauses are 2 s at first."""
KILL_WAIT_S = 0.3
"""A replica is killed at some moment within this time of a request: before, in, or after its load."""


class Trial:
    """One run's state and counts."""

    def __init__(self, folder: Path, model: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.server = Server(folder)
        self.setup = Setup(
            folder=model,
            redis=f"cache_url: 'redis://127.0.0.1:{self.server.port}'",
            engine="batch_tokens: 1024, max_running: 4, ",
            tier=f"host_gib: {HOST_BLOCKS * TINY_BLOCK_BYTES / 2**30:.6f}",
            context_tokens=CONTEXT_TOKENS,
            kv_blocks=ENGINE_BLOCKS,
            is_forced=True,
        )
        self.events: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.wrong: list[dict[str, Any]] = []
        self.cases = self.prompt_tokens = self.cached_tokens = 0
        self.warm: list[dict[str, Any]] = []
        self.replica: Replica | None = None
        self.is_away = False

    def play(self, rounds: list[list[list[Case]]]) -> None:
        self.replica = Replica(self.setup)
        try:
            self.play_on(rounds)
            self.collect()
            self.replica.close()
        except BaseException:
            remove_shared_memory(self.replica.kill())
            raise

    def play_on(self, rounds: list[list[list[Case]]]) -> None:
        assert self.replica is not None
        mishaps = chain(MISHAPS, cycle(MORE_MISHAPS))
        for number, batches in enumerate(rounds):
            for at, batch in enumerate(batches):
                # In the middle of every second round: Redis knows what was computed before, what comes builds on it.
                if number % 2 and at == len(batches) // 2:
                    self.kill_replica(batch, [case for later in batches[at:] for case in later])
                elif number and at % max(3, len(batches) // MISHAPS_A_ROUND) == 0:
                    self.mishap(next(mishaps), batch)
                    if self.is_away:
                        self.bring_back(batch)
                        continue
                if number == len(rounds) - 1 and at == len(batches) // 2:
                    self.squeeze()
                if (number and not at) or self.chance.random() < RESET_RATIO:
                    assert self.replica.reset()
                    self.events["reset"] += 1
                self.check(batch, self.replica.ask(*(case.ask for case in batch)))

    def check(self, batch: list[Case], answers: list[Answer]) -> None:
        for case, answer in zip(batch, answers, strict=True):
            self.cases += 1
            self.prompt_tokens += len(case.ask.ids)
            self.cached_tokens += answer.cached
            if answer.tokens != case.tokens:
                self.wrong.append({"case": case.name, "prompt": len(case.ask.ids), "cached": answer.cached,
                                   "want": case.tokens, "got": answer.tokens})  # fmt: skip

    def mishap(self, kind: str, batch: list[Case]) -> None:
        self.events[kind] += 1
        if kind == "damage":
            assert self.replica is not None
            asked = [key for case in batch for key in self.replica.keys(case.ask) if is_sound(self.server, key)]
            self.events["damaged_values"] += damage(self.server, self.chance, asked)
        elif kind == "lose":
            self.events["lost_values"] += lose(self.server, self.chance)
        elif kind == "flush":
            self.server.redis.flushall()
        else:
            self.server.kill()
            self.is_away = True

    def squeeze(self) -> None:
        """From here on Redis has too little memory, and evicts."""
        used_bytes = int(self.server.redis.info("memory")["used_memory"])
        self.server.limit(int(used_bytes * SQUEEZE_RATIO))
        self.events["squeeze"] += 1

    def bring_back(self, batch: list[Case]) -> None:
        """After a batch without Redis start it again, and wait until the replica stores; meanwhile it computes."""
        assert self.replica is not None
        self.check(batch, self.replica.ask(*(case.ask for case in batch)))
        self.server.start()
        self.is_away = False
        until_s = time.monotonic() + BACK_S
        while not self.server.blocks():
            assert time.monotonic() < until_s, "Redis is back, and nothing is stored"
            # No cases, and not counted as such.
            self.replica.ask(Ask(ids=[self.chance.randrange(300, 7000) for _ in range(BLOCK_TOKENS + 1)]))
            self.events["while_away"] += 1

    def kill_replica(self, batch: list[Case], candidates: list[Case]) -> None:
        """Kill it within a request, and have a new one serve a prefix that Redis knows with its first request."""
        assert self.replica is not None
        self.collect()
        # From here to the answer only the replica may lose anything.
        memory_bytes = self.server.memory_bytes
        self.server.limit(0)
        blocks, case = max(((self.known_blocks(case), case) for case in candidates), key=lambda each: each[0])
        self.replica.begin(*(case.ask for case in batch))
        self.replica.has_answered(self.chance.random() * KILL_WAIT_S)
        left = self.replica.kill()
        self.events["replica_kill"] += 1
        self.replica = Replica(self.setup)
        self.events["leftovers"] += len(left)
        # The young ones of these are spared by the sweep at the start, since they may be about to be mapped.
        remove_shared_memory(left)
        (answer,) = self.replica.ask(case.ask)
        self.check([case], [answer])
        self.warm.append({"known_blocks": blocks, "cached": answer.cached, "loaded": self.loaded()})
        self.server.limit(memory_bytes)

    def known_blocks(self, case: Case) -> int:
        """How many of the prompt's first blocks Redis has undamaged."""
        assert self.replica is not None
        keys = self.replica.keys(case.ask)
        # The last token is always computed, so a block that ends with the prompt is of no use.
        keys = keys[: (len(case.ask.ids) - 1) // BLOCK_TOKENS]
        return next((at for at, key in enumerate(keys) if not is_sound(self.server, key)), len(keys))

    def loaded(self) -> int:
        assert self.replica is not None
        counts = self.replica.counts()
        return int(counts.get(stats.READ_BYTES, 0) / counts["payload_bytes"] * BLOCK_TOKENS)

    def collect(self) -> None:
        """Before the replica goes."""
        assert self.replica is not None
        counts = self.replica.counts()
        for name in (stats.BAD_VALUES, stats.DROPPED, stats.FAILURES, "asked", "found", "late", "down"):
            self.totals[name] += int(counts.get(name, 0))
        self.totals["loaded_tokens"] += self.loaded()

    def report(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "block_tokens": BLOCK_TOKENS,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "loaded_ratio": self.totals["loaded_tokens"] / self.prompt_tokens,
            "evicted_by_redis": self.server.evicted,
            "totals": dict(self.totals),
            "events": dict(self.events),
            "warm": self.warm,
            "wrong": self.wrong,
        }


def main() -> None:
    model, folder, *numbers = sys.argv[1:]
    conversations, turns, seed = map(int, numbers)
    began_s = time.monotonic()
    trial = Trial(Path(folder), model, seed)
    use_fork_server(trial.setup)
    marks = {}
    without = Setup(folder=model, context_tokens=CONTEXT_TOKENS, engine="batch_tokens: 1024, max_running: 4, ")
    with Replica(without) as plain:
        rounds = list(
            cases(
                lambda asks: [answer for ask in asks for answer in plain.ask(ask)],
                random.Random(seed),
                conversations=conversations,
                turns=turns,
            )
        )
    marks["reference_s"] = time.monotonic() - began_s
    trial.play(rounds)
    marks["all_s"] = time.monotonic() - began_s
    sys.stdout.write(json.dumps(trial.report() | {"marks": marks}) + "\n")
    trial.server.stop()


if __name__ == "__main__":
    main()
