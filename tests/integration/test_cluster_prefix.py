"""How well routing predicts what an engine has cached: conversations through two gateways, with too small a cache.

The contract: for 99% of prompts of a thousand tokens and more, the prediction made when a request is routed lies within
one KV block of what the engine reports, while blocks are evicted all the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from os.path import commonprefix
from pathlib import Path

import httpx
import pytest

from tests.cluster_harness import Cluster, second_gateway, settled, until

pytestmark = pytest.mark.integration

BLOCK_TOKENS = 128
"""vLLM's on CPU."""
LEAST_TOKENS = 1_000
SYSTEMS = 3
CONVERSATIONS = 10
TURNS_MAX = 8
TURN_WORDS = 90
WORDS = Path(__file__).read_text(encoding="utf-8").split()


@dataclass
class Conversation:
    """Messages so far; it begins anew when it is long."""

    rng: random.Random
    system: str
    messages: list[dict[str, str]] = field(default_factory=list)

    def next(self) -> list[dict[str, str]]:
        if len(self.messages) > 2 * TURNS_MAX:
            self.messages.clear()
        if not self.messages:
            self.messages.append({"role": "system", "content": self.system})
        self.messages.append({"role": "user", "content": words(self.rng, TURN_WORDS)})
        return self.messages


@dataclass(frozen=True)
class Asked:
    """One prompt, what was predicted, what came of it."""

    prompt_tokens: int
    predicted_tokens: int
    cached_tokens: int
    possible_tokens: int
    """About what would have been cached, had nothing been evicted."""

    @property
    def is_near(self) -> bool:
        return abs(self.predicted_tokens - self.cached_tokens) <= BLOCK_TOKENS

    @property
    def is_partly_evicted(self) -> bool:
        return 0 < self.cached_tokens < self.possible_tokens - 2 * BLOCK_TOKENS


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


class Churn:
    """Conversations that take turns, each through either gateway."""

    def __init__(self, clients: list[httpx.AsyncClient], seed: int) -> None:
        self._clients = clients
        self._rng = random.Random(seed)
        systems = [words(self._rng, 420) for _ in range(SYSTEMS)]
        self._conversations = [
            Conversation(random.Random(seed + number), systems[number % SYSTEMS]) for number in range(CONVERSATIONS)
        ]
        self._seen: list[str] = []
        self.asked: list[Asked] = []

    async def run(self, requests: int) -> None:
        halves = (self._conversations[::2], self._conversations[1::2])
        await asyncio.gather(*(self._take_turns(half, requests // 2) for half in halves))

    async def _take_turns(self, conversations: list[Conversation], requests: int) -> None:
        for _ in range(requests):
            await self._ask(self._rng.choice(conversations), self._rng.choice(self._clients))

    async def _ask(self, conversation: Conversation, client: httpx.AsyncClient) -> None:
        messages = conversation.next()
        body = {"model": "tiny", "messages": messages, "max_tokens": 24, "temperature": 0}
        answer = await client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            conversation.messages.pop()
            assert answer.status_code in {502, 503}, answer.text
            await asyncio.sleep(0.2)
            return
        said = answer.json()
        text = json.dumps(messages)
        shared = max((len(commonprefix([text, earlier])) for earlier in self._seen), default=0)  # noqa: RUF071 - of texts
        self._seen.append(text)
        usage = said["usage"]
        conversation.messages.append({"role": "assistant", "content": said["choices"][0]["message"]["content"] or ""})
        if usage["prompt_tokens"] >= LEAST_TOKENS and answer.headers["x-longreach-pool"] == "short":
            self.asked.append(
                Asked(
                    prompt_tokens=usage["prompt_tokens"],
                    predicted_tokens=int(answer.headers.get("x-longreach-predicted-tokens", "0")),
                    cached_tokens=(usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0,
                    possible_tokens=usage["prompt_tokens"] * shared // len(text),
                )
            )

    def forget(self) -> None:
        """The engine was replaced: nothing could be cached."""
        self._seen.clear()


def report(asked: list[Asked]) -> str:
    """The figures of the contract."""
    prompts = sum(one.prompt_tokens for one in asked)
    cached = sum(one.cached_tokens for one in asked) / prompts
    evicted = sum(one.is_partly_evicted for one in asked) / len(asked)
    near = sum(one.is_near for one in asked) / len(asked)
    far = sorted(one.predicted_tokens - one.cached_tokens for one in asked if not one.is_near)
    return (
        f"{len(asked)} prompts of {prompts // len(asked)} tokens, {cached:.1%} of tokens cached, {evicted:.1%} "
        f"of prompts partly evicted, {near:.2%} predicted within a block; the others off by {far}"
    )


def assert_contract(asked: list[Asked], *, near: float, evicted: float) -> None:
    told = report(asked)
    prompts = sum(one.prompt_tokens for one in asked)
    assert sum(one.cached_tokens for one in asked) >= prompts / 2, told
    assert sum(one.is_partly_evicted for one in asked) >= evicted * len(asked), told
    assert sum(one.is_near for one in asked) >= near * len(asked), told


@asynccontextmanager
async def churning(cluster: Cluster, folder: Path, seed: int) -> AsyncIterator[Churn]:
    await settled(cluster, "short")
    async with (
        second_gateway(cluster, folder) as other,
        httpx.AsyncClient(base_url=cluster.url, timeout=120) as one,
        httpx.AsyncClient(base_url=other.url, timeout=120) as two,
    ):
        yield Churn([one, two], seed)


@pytest.mark.timeout(300)
async def test_predictions_under_churn(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small part of the contract: of 100 prompts, chance alone puts some beyond a block."""
    async with churning(cluster, tmp_path, seed=1) as churn:
        await churn.run(100)
    with capsys.disabled():
        print(f"\nprefix: {report(churn.asked)}")  # noqa: T201 - the figures are the point
    assert_contract(churn.asked, near=0.93, evicted=0.03)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_the_accuracy_contract(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over a thousand prompts, with the replica killed once in between."""
    async with churning(cluster, tmp_path, seed=2) as churn:
        await churn.run(500)
        lease = (await settled(cluster, "short"))["short"]
        os.kill((await cluster.reports())[lease.replica_id].pid, signal.SIGKILL)

        async def is_replaced() -> bool:
            now = (await cluster.leases()).get("short")
            return now is not None and now.replica_id != lease.replica_id

        await until(is_replaced, timeout_s=240, what="Serve replaced the replica")
        churn.forget()
        await churn.run(500)
    with capsys.disabled():
        print(f"\nprefix: {report(churn.asked)}")  # noqa: T201 - the figures are the point
    assert_contract(churn.asked, near=0.99, evicted=0.1)
