"""Time to first token of one prompt: computed, in the same replica again, and from Redis in the other one.

Each round takes a new prompt that nobody has seen, and the replicas change parts. They are asked without the gateway,
so that it is known who has what. What must not live here: starting the cluster, medians.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.prefix.cluster import BenchCluster, Replica
from loadtest.prefix.progress import Watcher
from loadtest.prefix.scrape import Counters, added
from loadtest.prefix.tokens import Tokens
from loadtest.prefix.workload import Message, document

CACHED_RATIO_MIN = 0.9
"""Of a prompt that is called warm: whole blocks only, and never its last token, are cached."""
ANSWER_TOKENS = 16
"""Some steps after the prompt's last: the tier stores a block in the step after the one that filled it."""
QUESTION = "Which of these words comes first?"
STEPS = 3
"""Requests of a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One request of a round."""

    ttft_s: float
    prompt_tokens: int
    cached_tokens: int
    why: str | None
    """Why it is not what it was to be; None where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One prompt, three times."""

    cold: Timed
    local: Timed
    redis: Timed
    miss: Counters
    """What the tier did while the cold prompt was answered, in which it had nothing for it."""
    moved: Counters
    """What it did during the whole round, in both replicas."""


def sized_prompt(tokens: Tokens, prompt_tokens: int, *, seed: int, edition: str) -> list[Message]:
    """A prompt of about so many tokens, template included."""
    count = prompt_tokens
    # A word is about a token; the second draft corrects by what the first one has.
    for _ in range(2):
        messages = _prompt(count, seed=seed, edition=edition)
        count = max(1, count * prompt_tokens // len(tokens.ids(tokens.rendered(messages))))
    return _prompt(count, seed=seed, edition=edition)


def _prompt(count: int, *, seed: int, edition: str) -> list[Message]:
    rng = random.Random(f"{seed}:{edition}")  # noqa: S311 - repeatable, nothing secret
    return [
        {"role": "system", "content": document(rng, count, edition=edition)},
        {"role": "user", "content": QUESTION},
    ]


def measure_ttft(
    cluster: BenchCluster, tokens: Tokens, *, prompt_tokens: int, repeats: int, seed: int, watcher: Watcher
) -> list[Round]:
    """The rounds, in the order in which they were run.

    Raises:
        BenchError: something was not answered.
    """
    first, second = cluster.replicas[:2]
    for replica in (first, second):
        watcher.step("warming up")
        # Both know then how fast they compute; without that, nothing is ever fetched.
        messages = sized_prompt(tokens, prompt_tokens, seed=seed, edition=f"warm-up {replica.replica_id}")
        cluster.ask_replica(replica, messages, salt="warm-up", answer_tokens=ANSWER_TOKENS)
    rounds = []
    for number in range(repeats):
        pair = (first, second) if number % 2 == 0 else (second, first)
        messages = sized_prompt(tokens, prompt_tokens, seed=seed, edition=f"round {number}")
        rounds.append(_round(cluster, *pair, messages, salt=f"bench-round-{number}", watcher=watcher))
    return rounds


def _round(
    cluster: BenchCluster,
    holder: Replica,
    fresh: Replica,
    messages: Sequence[Mapping[str, str]],
    *,
    salt: str,
    watcher: Watcher,
) -> Round:
    before = [cluster.counters(replica) for replica in (holder, fresh)]
    watcher.step("cold")
    cold = cluster.ask_replica(holder, messages, salt=salt, answer_tokens=ANSWER_TOKENS)
    miss = cluster.counters(holder).since(before[0])
    expected = cold.prompt_tokens // holder.block_tokens
    stored = cluster.stored_blocks(salt, at_least=expected)
    watcher.step("same replica")
    local = cluster.ask_replica(holder, messages, salt=salt, answer_tokens=ANSWER_TOKENS)
    watcher.step("from Redis")
    redis = cluster.ask_replica(fresh, messages, salt=salt, answer_tokens=ANSWER_TOKENS)
    after = [cluster.counters(replica) for replica in (holder, fresh)]
    lack = None if stored >= expected else f"only {stored} of {expected} blocks came to Redis in time"
    return Round(
        cold=Timed(
            ttft_s=cold.ttft_s,
            prompt_tokens=cold.prompt_tokens,
            cached_tokens=cold.cached_tokens,
            why=f"{cold.cached_tokens} tokens were cached before" if cold.cached_tokens else None,
        ),
        local=_warm(local.ttft_s, local.prompt_tokens, local.cached_tokens, None),
        redis=_warm(redis.ttft_s, redis.prompt_tokens, redis.cached_tokens, lack),
        miss=miss,
        moved=added(now.since(then) for now, then in zip(after, before, strict=True)),
    )


def _warm(ttft_s: float, prompt_tokens: int, cached_tokens: int, lack: str | None) -> Timed:
    why = None
    if cached_tokens < CACHED_RATIO_MIN * prompt_tokens:
        why = f"only {cached_tokens} of {prompt_tokens} tokens were cached: {lack or 'the rest was not fetched'}"
    return Timed(ttft_s=ttft_s, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, why=why)
