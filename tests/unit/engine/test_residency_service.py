"""The service between an engine and a store that tests play: what is told, when, and after what went wrong."""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixFacts, PrefixIndex, ResidencyUpdate, chain_root
from cluster.core.tier.salt import engine_salt
from cluster.engine.residency import service as module
from cluster.engine.residency.events import AllBlocksCleared, Batch, BlockRemoved, BlockStored
from cluster.engine.residency.opening import cache_obstacle, plan_obstacle, root_of
from cluster.engine.residency.seen import PROMPTS_MAX, SeenPrompts
from cluster.engine.residency.service import ResidencyService
from tests.residency import BLOCK_TOKENS, CHUNK_BYTES, TABLE, entries, expected, text_of, tree
from tests.unit.engine.plans import plan

REPLICA = ReplicaId("r1")
FACTS = PrefixFacts(model_digest="m", chunk_bytes=CHUNK_BYTES, block_tokens=BLOCK_TOKENS, adapters={})
PROMPT = [1, 2, 0, 1]


class Letters:
    """A tokenizer whose every token is a word of its own."""

    table = TABLE
    specials: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 97 for letter, _ in itertools.groupby(text)]


class Source:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Batch | None] = asyncio.Queue()

    async def batches(self) -> AsyncIterator[Batch | None]:
        while True:
            yield await self.queue.get()


class Sink:
    """A store, and a gateway that follows it."""

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self.updates: list[ResidencyUpdate] = []
        self.snapshots: list[tuple[int, int, int]] = []
        self.away = False
        self.lost_snapshot = False
        self.withdrawn = 0
        self.spoken = asyncio.Event()

    async def publish(self, update: ResidencyUpdate) -> None:
        self._check()
        self.updates.append(update)
        if not self.index.apply(REPLICA, update):
            self.index.snapshot(REPLICA, *self.stored)

    async def snapshot(self, epoch: int, seq: int, keys: array[int], tokens: array[int]) -> None:
        self._check()
        self.snapshots.append((epoch, seq, len(keys)))
        self.stored = (epoch, seq, list(zip(keys, tokens, strict=True)))

    async def renew(self) -> bool:
        self._check()
        return not self.lost_snapshot

    async def withdraw(self) -> None:
        self.withdrawn += 1
        self._check()

    def _check(self) -> None:
        self.spoken.set()
        if self.away:
            raise RedisConnectionError("away")

    def table(self) -> dict[int, int]:
        replica = self.index._replicas.get(REPLICA)
        return {} if replica is None else dict(replica.table)


class Play:
    def __init__(self) -> None:
        self.source, self.sink, self.prompts, self.tree = Source(), Sink(), SeenPrompts(), tree()
        epochs = itertools.count(100)
        tokens: Any = Letters()
        self.service = ResidencyService(
            facts=FACTS,
            tokens=tokens,
            tree=self.tree,
            source=self.source,
            sink=self.sink,
            prompts=self.prompts,
            random_u64=lambda: next(epochs),
        )

    def store(self, tokens: list[int], *, proven: bool = True, start: int = 0) -> None:
        if proven:
            self.prompts.note(tokens, text_of(tokens).decode())
        hashes: list[bytes | int] = [
            repr(tokens[:end]).encode() for end in range(start + BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS)
        ]
        parent = repr(tokens[:start]).encode() if start else None
        whole = tokens[start : start + len(hashes) * BLOCK_TOKENS]
        self.say(BlockStored(hashes, parent, whole, BLOCK_TOKENS, medium="GPU"))

    def remove(self, tokens: list[int]) -> None:
        self.say(BlockRemoved([repr(tokens).encode()], medium="GPU"))

    def say(self, *events: Any) -> None:
        self.source.queue.put_nowait(Batch(0.0, list(events)))

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                self.sink.spoken.clear()
                await self.sink.spoken.wait()

    async def until_told(self, *prompts: list[int]) -> None:
        await self.until(lambda: self.sink.table() == expected(prompts))


@pytest.fixture
async def play(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    monkeypatch.setattr(module, "SNAPSHOT_S", 0.05)
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    made = Play()
    made.service.start()
    await made.until(lambda: bool(made.sink.updates))
    yield made
    await made.service.stop()


async def test_an_epoch_begins_with_a_snapshot_and_has_no_gap(play: Play) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    play.remove(PROMPT)
    await play.until_told(PROMPT[:2])
    play.store(PROMPT)
    await play.until_told(PROMPT)
    assert play.sink.snapshots[0] == (100, 0, 0)
    assert [update.seq for update in play.sink.updates] == list(range(len(play.sink.updates)))
    assert {update.epoch for update in play.sink.updates} == {100}


async def test_snapshots_come_when_something_changed_or_was_lost(play: Play) -> None:
    play.store(PROMPT)
    await play.until(lambda: (100, play.sink.updates[-1].seq, len(expected([PROMPT]))) in play.sink.snapshots[1:])
    count = len(play.sink.snapshots)
    for _ in range(3):
        play.sink.spoken.clear()
        await play.sink.spoken.wait()
    assert len(play.sink.snapshots) == count, "nothing changed: it was only renewed"
    play.sink.lost_snapshot = True
    await play.until(lambda: len(play.sink.snapshots) > count)
    assert play.sink.snapshots[-1] == play.sink.snapshots[count - 1]


async def test_a_cleared_cache_is_told(play: Play) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    play.say(AllBlocksCleared())
    await play.until_told()
    assert play.sink.updates[-1].is_cleared
    play.store([2, 2])
    await play.until_told([2, 2])


async def test_lost_events_begin_a_new_epoch_with_nothing(play: Play) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    play.source.queue.put_nowait(None)
    await play.until(lambda: play.sink.updates[-1].epoch == 101)
    assert (play.sink.table(), play.service.lost) == ({}, 1)
    play.store([2, 2])
    await play.until_told([2, 2])


async def test_a_store_that_was_away_gets_a_new_epoch_with_all_there_is(play: Play) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    play.sink.away = True
    play.store([2, 2])
    play.remove(PROMPT)
    await play.until(lambda: len(play.tree) == 2)
    for _ in range(3):
        play.sink.spoken.clear()
        await play.sink.spoken.wait()
    assert not play.tree.keys._pending.removes, "what nobody can be told is not kept"
    play.sink.away = False
    await play.until_told(PROMPT[:2], [2, 2])
    assert play.sink.updates[-1].epoch > 100
    play.store([1, 1])
    await play.until_told(PROMPT[:2], [2, 2], [1, 1])


async def test_generated_blocks_are_looked_at(play: Play) -> None:
    play.store(PROMPT)
    canonical, other = [*PROMPT, 2, 1, 0, 1], [*PROMPT, 2, 2, 0, 1]  # the tokenizer makes one token of two equal ones
    play.store(canonical, proven=False, start=4)
    play.store(other, proven=False, start=4)
    await play.until_told(canonical)
    play.prompts.note(other, text_of(other).decode())
    await play.until_told(canonical, other)


async def test_a_prompt_that_is_not_its_tokens_text_proves_nothing(play: Play) -> None:
    tokens = [2, 2, 0, 1]
    play.prompts.note(tokens, "x" + text_of(tokens).decode())
    play.store(tokens, proven=False)
    play.store([1, 0])
    await play.until_told([1, 0])


async def test_additions_are_gathered_and_removals_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 30.0)
    monkeypatch.setattr(module, "SNAPSHOT_S", 3600.0)
    play = Play()
    play.service.start()
    await play.until(lambda: len(play.sink.updates) == 1)
    for number in range(3):
        play.store([number, 5])
    await asyncio.sleep(0.05)
    assert len(play.sink.updates) == 1
    play.store(PROMPT)
    play.remove(PROMPT)
    async with asyncio.timeout(5):
        await play.until_told([0, 5], [1, 5], [2, 5], PROMPT[:2])
    assert len(play.sink.updates) == 2
    await play.service.stop()


@pytest.mark.parametrize(
    "event",
    [
        BlockStored([b"x"], None, [1, 2, 3], 3),
        BlockStored([b"x"], None, [1, 2, 0], BLOCK_TOKENS),
        BlockStored([b"x"], None, [1, 2], BLOCK_TOKENS, kv_cache_spec_kind="mamba"),
        BlockStored([b"x"], None, [1, 2], BLOCK_TOKENS, group_idx=1),
        BlockRemoved([b"x"], group_idx=2),
    ],
)
async def test_caches_of_other_kinds_switch_it_off(play: Play, event: Any) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    assert play.service.facts is FACTS
    play.say(event)
    await play.until(lambda: play.sink.withdrawn > 0)
    assert play.service.facts is None
    play.prompts.note([1], "x")
    assert play.prompts.take() is None


async def test_other_tiers_are_not_the_device(play: Play) -> None:
    play.store(PROMPT)
    play.say(BlockRemoved([repr(PROMPT).encode()], medium="CPU", group_idx=0))
    play.say(BlockStored([b"y"], None, [1, 1], BLOCK_TOKENS, medium="CPU"))
    play.store([2, 2])
    await play.until_told(PROMPT, [2, 2])
    assert entries(play.tree) == expected([PROMPT, [2, 2]])


async def test_a_stop_takes_everything_back_although_the_store_is_away(play: Play) -> None:
    play.store(PROMPT)
    await play.until_told(PROMPT)
    play.sink.away = True
    await play.service.stop()
    assert (play.sink.withdrawn, play.service.facts) == (1, None)


def test_prompts_that_wait_are_bounded() -> None:
    prompts = SeenPrompts()
    for number in range(PROMPTS_MAX + 3):
        prompts.note([number], "x")
    first = prompts.take()
    assert first is not None
    assert first.token_ids == [3]


REDIS = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("pool", "state_url", "reason"),
    [
        ("", REDIS, None),
        ("", None, "no state store"),
        ("engine: {prefix_residency: false}", REDIS, "prefix_residency is false"),
        ("engine: {extra_args: {kv_events_config: {a: 1}}}", REDIS, "sets kv-events-config"),
        ("engine: {extra_args: {enable_prefix_caching: false}}", REDIS, "switches prefix caching off"),
        ("engine: {extra_args: {enable_prefix_caching: true}}", REDIS, None),
        ("engine: {extra_args: {data-parallel-size: 2}}", REDIS, "sets data-parallel-size"),
        ("tensor_parallel: 2", REDIS, None),
    ],
)
def test_what_speaks_against_it_before_the_start(pool: str, state_url: str | None, reason: str | None) -> None:
    found = plan_obstacle(plan(pool, state_url=state_url))
    assert found is None if reason is None else found is not None and reason in found


def test_what_speaks_against_it_after_the_start() -> None:
    full = {"kind": "full_attention", "block_size": 16, "sliding_window": None}
    assert cache_obstacle([full]) is None
    assert cache_obstacle([full | {"kind": "mla_attention"}]) is None
    for groups in ([], [full, full], [full | {"kind": "mamba"}], [full | {"sliding_window": 1024}]):
        assert cache_obstacle(groups)


@pytest.mark.parametrize("salt", [None, "tenant-a"])
def test_chains_begin_with_what_gateways_know(salt: str | None) -> None:
    """They know a tenant's salt and an adapter's digest by its name, not what a KV tier makes of the two."""
    facts = PrefixFacts(model_digest="m", chunk_bytes=CHUNK_BYTES, block_tokens=BLOCK_TOKENS, adapters={"a": "d" * 32})
    known = chain_root(model_digest="m", adapter_digest="d" * 32, salt=salt or "")
    assert root_of(facts, "a", salt) == known
    assert root_of(facts, "a", engine_salt(salt, "e" * 64)) == known
    assert root_of(facts, None, salt) != known


async def test_it_ends_at_once_when_news_come_with_the_end(play: Play) -> None:
    """`asyncio.wait_for` swallows a cancellation that comes together with what it waits for."""
    play.service._changed.set()
    async with asyncio.timeout(5):
        await play.service.stop()
    assert play.sink.withdrawn == 1
