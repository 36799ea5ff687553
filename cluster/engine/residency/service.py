"""Follows the engine's events and publishes what changed; off the request path, at the pace of the state store.

Removals are published at once, additions at most every `FLUSH_S`; what comes while a write is under way goes together
into the next. When the store is away the tree goes on, unsaid changes are forgotten, and a new epoch begins with a
snapshot when it is back. What must not live here: what an event means (events.py), forms and keys (cluster/state).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from cluster.core.prefix import UPDATE_ENTRIES_MAX, PrefixFacts, ResidencyUpdate
from cluster.engine.residency.block import NO_PATH, Doubt, next_path
from cluster.engine.residency.canonical import agreed_tokens
from cluster.engine.residency.events import Batch, UnsupportedCacheError, apply_batch
from cluster.engine.residency.kept import KeptBlocks
from cluster.engine.residency.seen import SeenPrompts
from cluster.engine.residency.tokens import TextTokens
from cluster.engine.residency.tree import BlockTree
from cluster.tasks import end_tasks

log = logging.getLogger("longreach.engine")
FLUSH_S = 0.01
"""Between two updates that only add: a fast engine steps more often than anybody needs to know."""
SNAPSHOT_S = 5.0
"""Between snapshots, if anything changed: who joins reads one, and then the updates after it."""
RETRY_S = 0.5
"""After a write that failed."""
PROMPTS_S = 0.25
"""Prompts are looked at whenever events come, and this often."""
PROMPT_BLOCKS_AT_ONCE = 128
"""About a millisecond's work; then other tasks of this process get their turn, which carry answers."""
DOUBTS_AT_ONCE = 32
"""Blocks tokenized anew in one go, in a thread: some 10 ms."""
KEPT_S = 1.0
"""Between two tellings of what Redis keeps."""
GOODBYE_TIMEOUT_S = 1.0


class Source(Protocol):
    """Where batches come from; None stands for some that are lost."""

    def batches(self) -> AsyncIterator[Batch | None]: ...  # noqa: D102


class Sink(Protocol):
    """Where changes go; see cluster/state/residency.py."""

    async def publish(self, update: ResidencyUpdate) -> None: ...  # noqa: D102
    async def snapshot(self, epoch: int, seq: int, keys: array[int], tokens: array[int]) -> None: ...  # noqa: D102
    async def renew(self) -> bool: ...  # noqa: D102
    async def withdraw(self) -> None: ...  # noqa: D102


class KeptSink(Protocol):
    """Where it goes what Redis keeps; see cluster/state/kept.py."""

    async def tell(self, adds: Sequence[tuple[int, int]]) -> None: ...  # noqa: D102


class ResidencyService:
    """Publishes what one engine has cached.

    Args:
        facts: how its chains are made.
        tokens: the model's tokenizer.
        source: the engine's events.
        sink: the state store.
        prompts: what `CheckedEngine.generate` notes.
        kept: what is in Redis of it, and where that is told; None without a KV tier.
        random_u64: a number nobody used for an epoch before.
    """

    def __init__(
        self,
        *,
        facts: PrefixFacts,
        tokens: TextTokens,
        tree: BlockTree,
        source: Source,
        sink: Sink,
        prompts: SeenPrompts,
        random_u64: Callable[[], int],
        kept: tuple[KeptBlocks, KeptSink] | None = None,
    ) -> None:
        self._facts = facts
        self._tokens = tokens
        self._lengths = [len(part or b"") for part in tokens.table]
        self._source = source
        self._sink = sink
        self._prompts = prompts
        self._random_u64 = random_u64
        self._kept = kept
        self._tree = tree
        self._changed = asyncio.Event()
        self._doubted = asyncio.Event()
        self._must_begin = True
        self._epoch = 0
        self._seq = 0
        self._reachable = True
        self._off = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost = 0
        """Gaps in the events that could not be closed."""

    @property
    def facts(self) -> PrefixFacts | None:
        """How gateways make this replica's keys; None once it publishes nothing any more."""
        return None if self._off else self._facts

    @property
    def resident_tokens(self) -> int:
        """Tokens in the blocks of the engine's cache; 0 where that is not followed any more."""
        return 0 if self._off else len(self._tree) * self._tree.block_tokens

    def start(self) -> None:
        """Follow and publish until `stop`."""
        works = [self._follow(), self._note_prompts(), self._look_at_doubts(), self._publish()]
        if self._kept is not None:
            works.append(self._tell_kept(*self._kept))
        for work in works:
            task = asyncio.create_task(self._guarded(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End, and take back what was published; never raises because of the store."""
        self._off = True
        self._prompts.close()
        await self._end_tasks()
        await self._withdraw()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except UnsupportedCacheError as error:
            log.warning("residency off: %s", error)
        except Exception:
            log.exception("residency off: a fault")
        if self._off:
            return
        self._off = True
        self._prompts.close()
        self._tree.cleared()
        await self._end_tasks()
        await self._withdraw()

    async def _end_tasks(self) -> None:
        await end_tasks([task for task in self._tasks if task is not asyncio.current_task()])

    async def _withdraw(self) -> None:
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._sink.withdraw()

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._source.batches()) as batches:  # type: ignore[type-var]
            async for batch in batches:
                # A prompt is noted before the engine gets it, so its blocks find it here.
                await self._take_prompts()
                if batch is None:
                    self.lost += 1
                    log.warning("residency: events were lost; what the engine has is learned anew")
                    self._tree.cleared()
                    self._must_begin = True
                else:
                    apply_batch(self._tree, batch, self._kept[0] if self._kept is not None else None)
                self._tell()

    def _tell(self) -> None:
        if self._tree.keys.has_changes or self._must_begin:
            self._changed.set()
        if self._tree.has_doubts:
            self._doubted.set()

    async def _note_prompts(self) -> None:
        """Prompts that the engine had cached make no events, and would stay noted."""
        while True:
            await asyncio.sleep(PROMPTS_S)
            await self._take_prompts()
            self._tell()

    async def _take_prompts(self) -> None:
        while (seen := self._prompts.take()) is not None:
            paths: list[bytes] = []
            path, size, text_bytes = NO_PATH, self._tree.block_tokens, 0
            for start in range(0, len(seen.token_ids), size):
                part = seen.token_ids[start : start + size]
                text_bytes += sum(self._lengths[token] for token in part if token < len(self._lengths))
                if len(part) == size:
                    path = next_path(path, array("I", part))
                    paths.append(path)
                if len(paths) % PROMPT_BLOCKS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            # A prompt that was cut or normalized, or holds an image, is not its tokens' text: its blocks are looked at.
            if text_bytes == len(seen.text.encode("utf-8", "surrogatepass")):
                self._tree.prove(paths)

    async def _look_at_doubts(self) -> None:
        while True:
            await self._doubted.wait()
            self._doubted.clear()
            while doubts := self._tree.take_doubts(DOUBTS_AT_ONCE):
                for block, agreed in await asyncio.to_thread(self._looked_at, doubts):
                    self._tree.judge(block, agreed)
                self._tell()

    def _looked_at(self, doubts: list[Doubt]) -> list[tuple[bytes | int, int]]:
        return [
            (
                doubt.block,
                doubt.starts_at
                + agreed_tokens(
                    doubt.tokens,
                    context=doubt.context,
                    is_start=doubt.starts_at == 0,
                    table=self._tokens.table,
                    specials=self._tokens.specials,
                    encode=self._tokens.encode,
                ),
            )
            for doubt in doubts
        ]

    async def _publish(self) -> None:
        loop = asyncio.get_running_loop()
        flushed_s = snapshot_s = loop.time() - SNAPSHOT_S
        has_news = True
        while True:
            wait_s = snapshot_s + SNAPSHOT_S - loop.time()
            await self._news(wait_s)
            if not self._must_begin and not self._tree.keys.has_losses:
                # Losses that come meanwhile are not let wait.
                await self._pause(flushed_s + FLUSH_S - loop.time())
            try:
                if self._must_begin:
                    await self._begin()
                    has_news, snapshot_s = False, loop.time()
                has_news = await self._flush() or has_news
                flushed_s = loop.time()
                if flushed_s >= snapshot_s + SNAPSHOT_S:
                    snapshot_s = flushed_s
                    # Also where the store has lost it.
                    if has_news or not await self._sink.renew():
                        await self._sink.snapshot(self._epoch, self._seq, *self._tree.keys.entries())
                        has_news = False
            except (RedisError, OSError) as error:
                if self._reachable:
                    log.warning("residency not published, state store away: %s", error)
                self._reachable = False
                self._must_begin = True
                await self._sit_out()
            else:
                self._reachable = True

    async def _news(self, wait_s: float) -> None:
        """Wait until something changed, at most so long."""
        # Python 3.11's wait_for swallows a cancellation that comes together with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, wait_s)):
                await self._changed.wait()
        self._changed.clear()

    async def _pause(self, wait_s: float) -> None:
        """Wait, or until something was removed."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while not self._tree.keys.has_losses and (left_s := deadline_s - asyncio.get_running_loop().time()) > 0:
            await self._news(left_s)

    async def _tell_kept(self, kept: KeptBlocks, sink: KeptSink) -> None:
        """Hints that nobody waits for: what cannot be told is told when it is used again."""
        while True:
            await asyncio.sleep(KEPT_S)
            while adds := kept.take(UPDATE_ENTRIES_MAX):
                with contextlib.suppress(RedisError, OSError):
                    await sink.tell(adds)

    async def _begin(self) -> None:
        """Begin an epoch: its snapshot, then an update that sends those who follow to it."""
        self._epoch, self._seq = self._random_u64(), 0
        self._tree.keys.drop_changes()
        self._must_begin = False
        await self._sink.snapshot(self._epoch, 0, *self._tree.keys.entries())
        await self._sink.publish(ResidencyUpdate(epoch=self._epoch, seq=0))

    async def _flush(self) -> bool:
        """Publish what there is; False when there was nothing."""
        has_flushed = False
        while self._tree.keys.has_changes and not self._must_begin:
            changes = self._tree.keys.take_changes(UPDATE_ENTRIES_MAX)
            self._seq += 1
            await self._sink.publish(
                ResidencyUpdate(
                    epoch=self._epoch,
                    seq=self._seq,
                    adds=changes.adds,
                    removes=changes.removes,
                    is_cleared=changes.is_cleared,
                )
            )
            has_flushed = True
        return has_flushed

    async def _sit_out(self) -> None:
        """Wait before the next try. What changes meanwhile is in the snapshot that comes with it."""
        await asyncio.sleep(RETRY_S)
        self._tree.keys.drop_changes()
