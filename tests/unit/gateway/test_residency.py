"""Following what replicas hold: snapshots, updates, gaps, replicas that go, and prompts on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.core.prefix import PrefixChain, PrefixFacts, ResidencyUpdate
from services.gateway.prefix import EXPECTED_BYTES_MAX, LINGER_S, ExpectedPrompts, PromptPrefix
from services.gateway.residency import Residency

BLOCK = 16
CHUNK = 64
FACTS = PrefixFacts(model_digest="m", chunk_bytes=CHUNK, block_tokens=BLOCK, adapters={"a": "digest"})
TEXT = bytes(range(256)) * 8
ONE, TWO = ReplicaId("one"), ReplicaId("two")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """A store with streams that tests write."""

    def __init__(self) -> None:
        self.snapshots: dict[ReplicaId, tuple[int, int, list[int], list[int], str]] = {}
        self.news: list[tuple[ReplicaId, str, ResidencyUpdate | None]] = []

    async def snapshot(self, replica_id: ReplicaId) -> tuple[int, int, list[int], list[int], str] | None:
        return self.snapshots.get(replica_id)

    async def read(
        self, positions: Mapping[ReplicaId, str], block_ms: int
    ) -> Sequence[tuple[ReplicaId, str, ResidencyUpdate | None]]:
        del positions, block_ms
        news, self.news = self.news, []
        return news


def lease(replica_id: ReplicaId, facts: PrefixFacts | None = FACTS) -> Lease:
    return Lease(
        replica_id=replica_id,
        pool=PoolName("p"),
        model="m",
        url="http://x",
        state=ReplicaState.READY,
        context_tokens=4096,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
        prefix=None if facts is None else facts.to_dict(),
    )


def prefix(text: bytes = TEXT, *, salt: str | None = None, adapter: str | None = None) -> PromptPrefix:
    return PromptPrefix(text, salt=salt, adapter=adapter)


def entries(text: bytes, chunks: int, **of: str) -> tuple[list[int], list[int]]:
    """A token every four bytes."""
    chain = prefix(text, **of).chain(FACTS)
    assert chain is not None
    return [chain.key(place) for place in range(chunks)], [(place + 1) * CHUNK // 4 for place in range(chunks)]


class World:
    def __init__(self, *replicas: ReplicaId) -> None:
        self.leases = {replica: lease(replica) for replica in replicas}
        self.source = Source()
        self.clock = Clock()
        self.residency = Residency(self.source, lambda: self.leases, self.clock)
        for replica in replicas:
            self.holds(replica, 0)

    def holds(self, replica: ReplicaId, chunks: int, *, epoch: int = 1, seq: int = 0) -> None:
        keys, tokens = entries(TEXT, chunks)
        self.source.snapshots[replica] = (epoch, seq, keys, tokens, "0-0")

    def tells(self, replica: ReplicaId, update: ResidencyUpdate | None) -> None:
        self.source.news.append((replica, "1-0", update))

    async def step(self) -> None:
        await self.residency._step(self.source)

    def resident(self, asked: PromptPrefix | None = None, tokens: int | None = None) -> Mapping[ReplicaId, int]:
        return self.residency.resident(asked or prefix(), "m", tokens)


async def test_a_snapshot_is_known_and_the_longest_comes_first() -> None:
    world = World(ONE, TWO)
    world.holds(ONE, 4)
    world.holds(TWO, 12)
    await world.step()
    found = world.resident()
    assert list(found) == [TWO, ONE]
    assert abs(found[TWO] - 12 * CHUNK // 4) <= BLOCK
    assert abs(found[ONE] - 4 * CHUNK // 4) <= BLOCK
    assert world.residency.is_useful("m")
    assert not world.residency.is_useful("other")


async def test_the_last_token_is_always_computed() -> None:
    world = World(ONE)
    world.holds(ONE, len(TEXT) // CHUNK)
    await world.step()
    assert world.resident(tokens=512)[ONE] == 496


async def test_updates_add_and_remove() -> None:
    world = World(ONE)
    await world.step()
    keys, tokens = entries(TEXT, 8)
    world.tells(ONE, ResidencyUpdate(1, 1, list(zip(keys, tokens, strict=True)), [], False))
    await world.step()
    assert world.resident()[ONE] >= 7 * CHUNK // 4
    world.tells(ONE, ResidencyUpdate(1, 2, [], keys[2:], False))
    await world.step()
    assert abs(world.resident()[ONE] - 2 * CHUNK // 4) <= BLOCK


@pytest.mark.parametrize("update", [ResidencyUpdate(1, 3, [], [], False), ResidencyUpdate(2, 1, [], [], False), None])
async def test_a_gap_a_new_epoch_or_nonsense_drops_that_replica_alone(update: ResidencyUpdate | None) -> None:
    world = World(ONE, TWO)
    world.holds(ONE, 8)
    world.holds(TWO, 8)
    await world.step()
    del world.source.snapshots[ONE]
    world.tells(ONE, update)
    await world.step()
    assert list(world.resident()) == [TWO]
    # Its next snapshot brings it back.
    world.holds(ONE, 8, epoch=2)
    world.clock.now_s += 10
    await world.step()
    assert set(world.resident()) == {ONE, TWO}


async def test_a_replica_that_is_gone_holds_nothing() -> None:
    world = World(ONE)
    world.holds(ONE, 8)
    await world.step()
    assert world.resident()
    world.leases.clear()
    await world.step()
    assert not world.resident()
    assert not world.residency.is_useful("m")


async def test_another_tenant_or_adapter_finds_nothing() -> None:
    world = World(ONE)
    world.holds(ONE, 8)
    await world.step()
    assert not world.resident(prefix(salt="other"))
    assert not world.resident(prefix(adapter="a"))
    assert not world.resident(prefix(adapter="unknown to the replica"))


async def test_leases_without_facts_are_passed_over() -> None:
    world = World(ONE)
    world.leases[TWO] = lease(TWO, None)
    world.leases[ReplicaId("three")] = replace(lease(TWO), prefix={"nonsense": 1})
    world.holds(ONE, 8)
    await world.step()
    assert list(world.resident()) == [ONE]


async def test_a_prompt_on_its_way_counts_until_the_replica_speaks() -> None:
    world = World(ONE, TWO)
    await world.step()
    assert not world.resident()
    expected = world.residency.sent(prefix(), TWO, prompt_tokens=len(TEXT) // 4)
    assert expected is not None
    longer = prefix(TEXT[: 10 * CHUNK] + b"x" * 1000)
    assert world.resident(longer) == {TWO: 160}
    expected.settled(world.clock.now_s)
    assert world.resident(longer) == {TWO: 160}
    world.clock.now_s += LINGER_S + 0.1
    assert not world.resident(longer)


async def test_a_prompt_that_was_not_taken_counts_no_more() -> None:
    world = World(ONE)
    await world.step()
    expected = world.residency.sent(prefix(), ONE, prompt_tokens=512)
    assert expected is not None
    assert world.resident()
    expected.failed()
    assert not world.resident()


async def test_a_store_that_is_away_leaves_what_is_known() -> None:
    world = World(ONE)
    world.holds(ONE, 8)
    await world.step()

    async def fail(positions: Mapping[ReplicaId, str], block_ms: int) -> None:
        raise OSError("away")

    world.source.read = fail  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(world.residency.follow())
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    assert world.resident()


def test_expected_prompts_are_bounded() -> None:
    clock = Clock()
    expected = ExpectedPrompts(clock)
    for number in range(100):
        chain = PrefixChain(number.to_bytes(16, "big"), TEXT, CHUNK)
        assert expected.add(ONE, chain, 512, EXPECTED_BYTES_MAX // 10) is not None
    assert len(expected) == 10
    # What is over is let go of with the next that comes.
    kept = [expected.add(ONE, PrefixChain(b"x" * 16, TEXT, CHUNK), 512, 1) for _ in range(5)]
    for prompt in (*expected._oldest, *kept):
        assert prompt is not None
        prompt.settled(clock.now_s)
    clock.now_s += 1
    last = PrefixChain(b"y" * 16, TEXT, CHUNK)
    expected.add(TWO, last, 512, 1)
    assert len(expected) == 1
    assert expected.resident_tokens(TWO, last, BLOCK) == 512
    assert expected.resident_tokens(ONE, last, BLOCK) == 0
