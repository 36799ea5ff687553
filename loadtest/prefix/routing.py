"""The same conversations under one routing policy after the other, over two replicas behind the gateway.

A closed loop: so many askers, each of which sends its next turn when its last is answered. What must not live here:
the workload, starting the cluster, percentiles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from loadtest.prefix.client import Answer, BenchError
from loadtest.prefix.cluster import BenchCluster
from loadtest.prefix.ideal import IdealCache
from loadtest.prefix.progress import Watcher
from loadtest.prefix.scrape import Counters, added
from loadtest.prefix.tokens import Tokens
from loadtest.prefix.workload import Conversation, Message, Schedule, Shape, conversations, order

POLICIES = ("round-robin", "session", "prefix", "balanced")
"""As `gateway.routing.policy` names them; the first is what the others are compared with."""
SESSION_POLICY = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One turn."""

    tenant: str
    messages: Sequence[Message]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """All turns under one policy, in the order in which they were sent."""

    policy: str
    sent: tuple[Sent, ...]
    ideal_tokens: int
    """What these turns have to compute at the least, in this order."""
    distinct_tokens: int
    """Whole blocks that a cache without end would hold after them."""
    miscounted: int
    """Prompts whose length the engine counts otherwise than we do; the ideal is not to be trusted where there are."""
    moved: Counters
    """What the tiers of all replicas did."""


def run_policy(
    cluster: BenchCluster,
    tokens: Tokens,
    policy: str,
    *,
    shape: Shape,
    seed: int,
    name: str,
    concurrency: int,
    watcher: Watcher,
) -> PolicyRun:
    """Ask everything under one policy.

    Args:
        cluster: whose gateway is given the policy first.
        tokens: of its model.
        policy: by its name in the configuration.
        shape: of the workload.
        seed: of the workload; equal for all policies.
        name: of this run; other names find nothing that it left in a cache.
        concurrency: how many askers.
        watcher: is told of every turn.

    Raises:
        BenchError: a turn was not answered.
    """
    cluster.use_policy(policy)
    before = [cluster.counters(replica) for replica in cluster.replicas]

    def ask(conversation: Conversation, messages: Sequence[Message]) -> Answer:
        watcher.step(policy)
        session = conversation.name if policy == SESSION_POLICY else None
        return cluster.ask(messages, tenant=conversation.tenant, answer_tokens=shape.answer_tokens, session=session)

    talks = conversations(shape, seed=seed, run=name)
    sent = converse(talks, order(shape, seed=seed), ask, concurrency=concurrency)
    after = [cluster.counters(replica) for replica in cluster.replicas]
    block_tokens = cluster.replicas[0].block_tokens
    ideal_tokens, distinct_tokens, miscounted = ideal_of(sent, tokens, block_tokens=block_tokens)
    return PolicyRun(
        policy=policy,
        sent=tuple(sent),
        ideal_tokens=ideal_tokens,
        distinct_tokens=distinct_tokens,
        miscounted=miscounted,
        moved=added(now.since(then) for now, then in zip(after, before, strict=True)),
    )


def converse(
    talks: Sequence[Conversation],
    turns: Sequence[int],
    ask: Callable[[Conversation, Sequence[Message]], Answer],
    *,
    concurrency: int,
) -> list[Sent]:
    """Ask all turns; the first failure ends it.

    Raises:
        BenchError: a turn was not answered.
    """
    schedule = Schedule(turns, [talk.tenant for talk in talks])
    changed = threading.Condition()
    sent: list[Sent | None] = []
    failures: list[BaseException] = []

    def take() -> tuple[int, int, list[Message]] | None:
        with changed:
            while not failures and len(schedule):
                place = schedule.take()
                if place is not None:
                    sent.append(None)
                    return len(sent) - 1, place, talks[place].ask()
                changed.wait()
            return None

    def work() -> None:
        while (turn := take()) is not None:
            number, place, messages = turn
            talk = talks[place]
            try:
                answer = ask(talk, messages)
            except BaseException as error:
                with changed:
                    failures.append(error)
                    changed.notify_all()
                raise
            with changed:
                talk.answered(answer.text)
                sent[number] = Sent(tenant=talk.tenant, messages=messages, answer=answer)
                schedule.done(place)
                changed.notify_all()

    askers = ThreadPoolExecutor(concurrency, thread_name_prefix="asker")
    try:
        for asker in [askers.submit(work) for _ in range(concurrency)]:
            asker.result()
    except BaseException as error:
        # Ctrl-C comes here, in the main thread. Askers end with the turn they are at, which the end of the cluster
        # breaks off: nobody waits for them before.
        with changed:
            failures.append(error)
            changed.notify_all()
        raise
    finally:
        askers.shutdown(wait=False, cancel_futures=True)
    whole = [one for one in sent if one is not None]
    if len(whole) != len(turns):
        raise BenchError(f"only {len(whole)} of {len(turns)} turns were answered")
    return whole


def ideal_of(sent: Sequence[Sent], tokens: Tokens, *, block_tokens: int) -> tuple[int, int, int]:
    """What these turns have to compute at the least, what a cache of it all holds, and prompts counted otherwise."""
    caches: dict[str, IdealCache] = {}
    computed = miscounted = 0
    for one in sent:
        text = tokens.rendered(one.messages)
        prompt = tokens.ids(text)
        miscounted += len(prompt) != one.answer.prompt_tokens
        cache = caches.setdefault(one.tenant, IdealCache(block_tokens))
        computed += cache.computed(prompt)
        cache.learn(tokens.ids(text + one.answer.text))
    return computed, sum(cache.tokens for cache in caches.values()), miscounted
