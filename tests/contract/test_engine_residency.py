"""A real engine's cache events to Redis and back: what a gateway predicts is what vLLM says it found, within one block.

One vLLM with the tiny model and a small cache, through its own HTTP application; no Ray, no gateway.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, PrefixIndex, chain_root
from cluster.engine.arguments import engine_environment
from cluster.engine.hardware import detect_hardware
from cluster.engine.plan import ReplicaPlan
from cluster.engine.residency import service
from cluster.engine.residency.opening import ReplicaResidency
from cluster.engine.vllm_engine import VllmEngine, start_engine
from cluster.models.folder import card_from_folder
from cluster.models.tiny import TinyFetch
from cluster.sockets import free_port
from cluster.state.embedded import server_command, url, wait_until_ping
from cluster.state.residency import ResidencyReader, connect_binary
from cluster.tasks import end_tasks
from tests.unit.engine.plans import plan

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
pytestmark = pytest.mark.integration

REPLICA = ReplicaId("r1")
BLOCKS = 40
REQUESTS = 60
WORDS = [
    *("the", "of", "prefix", "cache", "block", "window", "über", "naïve", "今天天气", "12345", "streaming", "🎉"),
    *("def", "return", "{'a': 1}", "\n\n", "token", "model"),
]


@pytest.fixture
def state_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    with subprocess.Popen(server_command(tmp_path / "valkey", port), stdout=subprocess.DEVNULL) as process:
        try:
            wait_until_ping(port)
            yield url(port)
        finally:
            process.terminate()


@pytest.fixture
def small(tmp_path: Path, state_url: str) -> ReplicaPlan:
    folder = tmp_path / "tiny"
    folder.mkdir()
    TinyFetch(seed=1, revision="r").into(folder, tmp_path, lambda *_: None)
    card = card_from_folder(folder)
    made = plan("context_tokens: 4096, engine: {max_running: 4}", hardware=detect_hardware(), state_url=state_url)
    size = BLOCKS * 128 * card.kv_bytes_per_token * (2 if made.dtype == "float32" else 1)
    return dataclasses.replace(made, folder=str(folder), kv_cache_bytes=size, sampling={}, tool_parser=None)


class Gateway:
    """Follows one replica."""

    def __init__(self, state_url: str) -> None:
        self.reader = ResidencyReader(connect_binary(state_url), "local")
        self.index = PrefixIndex()
        self.heard_s: list[float] = []

    async def follow(self) -> None:
        position = "0-0"
        while True:
            for _, read, update in await self.reader.read({REPLICA: position}, 1_000):
                position = read
                self.heard_s.append(time.time())
                assert update is not None
                if not self.index.apply(REPLICA, update):
                    found = await self.reader.snapshot(REPLICA)
                    assert found is not None
                    entries = list(zip(found.keys, found.tokens, strict=True))
                    self.index.snapshot(REPLICA, found.epoch, found.seq, entries)

    def predicted(self, facts: PrefixFacts, text: str, salt: str) -> int:
        start = chain_root(model_digest=facts.model_digest, adapter_digest="", salt=salt)
        chain = PrefixChain(start, text.encode(), facts.chunk_bytes)
        return self.index.resident(chain, [REPLICA], facts=facts).get(REPLICA, 0)


def count_graphs(_worker: Any) -> int:
    """Runs in the engine."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


async def graphs(engine: VllmEngine) -> int:
    """How many functions it has compiled."""
    counted: list[int] = await engine._engine.collective_rpc(count_graphs)
    return sum(counted)


async def test_predictions_are_what_the_engine_finds(
    small: ReplicaPlan, state_url: str, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    for name, value in engine_environment(small).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # `graphs` sends a function
    applied: list[tuple[float, float]] = []
    apply_batch = service.apply_batch

    def timed(tree: Any, batch: Any, kept: Any) -> None:
        apply_batch(tree, batch, kept)
        if tree.keys.has_changes:
            applied.append((batch.ts, time.time()))

    monkeypatch.setattr(service, "apply_batch", timed)
    residency = ReplicaResidency(small, REPLICA)
    residency.prepare()
    engine = await start_engine(small, sockets=residency.sockets, prompts=residency.prompts)
    gateway = Gateway(state_url)
    following = asyncio.create_task(gateway.follow())
    try:
        await engine.probe()
        rehearsed = await graphs(engine)
        await residency.start(engine.kv_groups)
        facts = PrefixFacts.from_dict(residency.facts)
        assert facts is not None
        assert facts.block_tokens == 128
        transport = httpx.ASGITransport(engine.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=120) as client:
            seen = await talk(client, gateway, facts)
            body = {"model": "tiny", "prompt": "a", "max_tokens": 2, "logprobs": 2}
            assert (await client.post("/v1/completions", json=body)).status_code == 200
            # While something is compiled, every stream of the engine stands still: it was, before there were any.
            assert await graphs(engine) == rehearsed > 0
    finally:
        await end_tasks([following])
        await residency.stop()
        engine.shutdown()
    assert await gateway.reader.snapshot(REPLICA) is None
    errors = [abs(predicted - found) // facts.block_tokens for predicted, found, _ in seen]
    cached = sum(found for _, found, _ in seen) / sum(prompt for _, _, prompt in seen)
    waits_s = sorted(
        min((heard for heard in gateway.heard_s if heard >= done), default=done) - made for made, done in applied
    )
    figures = {
        "exact": errors.count(0) / len(errors),
        "worst_blocks": max(errors),
        "under": sum(predicted < found for predicted, found, _ in seen),
        "over": sum(predicted > found for predicted, found, _ in seen),
        "cached_ratio": cached,
        "median_ms": 1e3 * waits_s[len(waits_s) // 2],
        "p90_ms": 1e3 * waits_s[len(waits_s) * 9 // 10],
    }
    record_property("residency", figures)
    print(figures)  # noqa: T201 - with -s, for whoever measures
    assert max(errors) <= 1, seen
    assert cached > 0.2
    assert any(found < prompt // 2 for _, found, prompt in seen[REQUESTS // 2 :]), "nothing was ever evicted"


async def talk(client: httpx.AsyncClient, gateway: Gateway, facts: PrefixFacts) -> list[tuple[int, int, int]]:
    """Conversations that grow, of two tenants, in a cache that does not hold them all: predicted, found, prompt."""
    chance = random.Random(3)
    texts = {
        (salt, place): " ".join(chance.choices(WORDS, k=chance.randrange(100, 500)))
        for salt in ("", "acme")
        for place in range(4)
    }
    seen = []
    for _ in range(REQUESTS):
        salt, place = chance.choice(list(texts))
        texts[salt, place] += " " + " ".join(chance.choices(WORDS, k=chance.randrange(10, 60)))
        text = texts[salt, place]
        predicted = gateway.predicted(facts, text, salt)
        body = {"model": "tiny", "prompt": text, "max_tokens": chance.randrange(1, 40), "temperature": 0}
        answer = (await client.post("/v1/completions", json=body | ({"cache_salt": salt} if salt else {}))).json()
        texts[salt, place] += answer["choices"][0]["text"]
        usage = answer["usage"]
        seen.append((predicted, usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]))
        if len(texts[salt, place]) > 8_000:
            texts[salt, place] = " ".join(chance.choices(WORDS, k=200))
        # What the last step did is on its way; a gateway that waits for the answer's way to the client waits longer.
        await asyncio.sleep(0.05)
    return seen
