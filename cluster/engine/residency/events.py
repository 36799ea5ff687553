"""vLLM's KV cache events: the subscription, and what each event means for the tree.

The forms on the wire are those of vllm/distributed/kv_events.py, as far as they are read here; tests/contract holds
them against vLLM's own. Batches are numbered from 0 in the engine's process, which keeps the last 10,000 of them for
those who missed some. What must not live here: vLLM, what is done about a gap that cannot be closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from cluster.core.errors import LongreachError
from cluster.engine.residency.block import BlockHash
from cluster.engine.residency.kept import KeptBlocks
from cluster.engine.residency.tree import BlockTree

log = logging.getLogger("longreach.engine")
DEVICE, HOST, STORAGE = "GPU", "CPU", "STORAGE"
"""vLLM's names for the engine's own cache, also on a CPU, and for the tiers behind it: the host's memory, Redis."""
FULL_ATTENTION = frozenset({None, "full_attention", "mla_attention"})
"""Kinds of cache in which a block holds all that its tokens leave behind."""
REPLAY_TIMEOUT_S = 5.0
"""The engine answers between two batches; one that takes longer is busy or gone, and the gap counts as open."""
RECEIVE_HWM = 10_000
"""Batches kept for this process while its loop is busy: minutes of steps."""
SEQ_BYTES = 8
END_OF_REPLAY = (-1).to_bytes(SEQ_BYTES, "big", signed=True)
MESSAGE_PARTS, REPLAY_PARTS = 3, 4


class UnsupportedCacheError(LongreachError):
    """The engine's cache is of a kind whose blocks cannot be followed."""


class BlockStored(msgspec.Struct, tag=True):
    """Blocks that have one more copy; vLLM's has more fields."""

    block_hashes: list[bytes | int]
    parent_block_hash: bytes | int | None
    token_ids: list[int]
    block_size: int
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[list[Any] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class BlockRemoved(msgspec.Struct, tag=True):
    """Blocks that have one copy less."""

    block_hashes: list[bytes | int]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag=True):
    """The device has none any more."""


Event = BlockStored | BlockRemoved | AllBlocksCleared


class Batch(msgspec.Struct, array_like=True):
    """What one engine step did to the cache."""

    ts: float
    events: list[Event]


class Subscription:
    """Batches in their order, each once; None stands for some that are lost.

    Args:
        events: the endpoint that publishes.
        replay: the endpoint that repeats.
    """

    def __init__(self, *, events: str, replay: str) -> None:
        self._events = events
        self._replay = replay
        self._decoder = msgspec.msgpack.Decoder(Batch)
        self._next = 0

    async def batches(self) -> AsyncIterator[Batch | None]:
        """Follow for good; the context of the sockets ends with the iteration."""
        with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as live:
            live.setsockopt(zmq.LINGER, 0)
            live.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
            live.setsockopt(zmq.SUBSCRIBE, b"")
            live.connect(self._events)
            # What was published before this socket was there.
            async for batch in self._missed(context, None):
                yield batch
            while True:
                parts = await live.recv_multipart()
                if len(parts) != MESSAGE_PARTS:
                    continue
                seq = int.from_bytes(parts[1], "big")
                if seq > self._next:
                    async for batch in self._missed(context, seq):
                        yield batch
                if seq == self._next:
                    self._next += 1
                    yield self._decoded(parts[2])

    async def _missed(self, context: zmq.asyncio.Context, until: int | None) -> AsyncIterator[Batch | None]:
        """What is to be had from the next batch on; afterwards nothing before `until` is waited for any more."""
        try:
            async with asyncio.timeout(REPLAY_TIMEOUT_S):
                found = await self._replayed(context)
        except TimeoutError:
            log.warning("residency: the engine repeats no events in %.0f s", REPLAY_TIMEOUT_S)
            found = []
        for seq, payload in found:
            if seq < self._next:
                continue
            if seq > self._next:
                yield None
            self._next = seq + 1
            yield self._decoded(payload)
        if until is not None and until > self._next:
            self._next = until
            yield None

    async def _replayed(self, context: zmq.asyncio.Context) -> list[tuple[int, bytes]]:
        # Several answers to one question: a REQ socket could not take them.
        with context.socket(zmq.DEALER) as asking:
            asking.setsockopt(zmq.LINGER, 0)
            asking.connect(self._replay)
            await asking.send_multipart([b"", self._next.to_bytes(SEQ_BYTES, "big")])
            found: list[tuple[int, bytes]] = []
            while True:
                parts = await asking.recv_multipart()
                if len(parts) != REPLAY_PARTS or parts[2] == END_OF_REPLAY:
                    return found
                found.append((int.from_bytes(parts[2], "big"), parts[3]))

    def _decoded(self, payload: bytes) -> Batch | None:
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("residency: events that are not understood: %s", error)
            return None


def apply_batch(tree: BlockTree, batch: Batch, kept: KeptBlocks | None = None) -> None:
    """Let the tree know what a step did, and `kept` what is in Redis.

    Raises:
        UnsupportedCacheError: the cache has several groups, another block size, or blocks that hold less than all.
    """
    for event in batch.events:
        if isinstance(event, AllBlocksCleared):
            tree.cleared()
        elif event.medium not in {None, DEVICE}:
            _apply_behind(tree, event, kept)
        elif event.group_idx:
            raise UnsupportedCacheError("the model's cache has several groups")
        elif isinstance(event, BlockRemoved):
            for block in event.block_hashes:
                tree.removed(block)
        else:
            _store(tree, event)


def _apply_behind(tree: BlockTree, event: BlockStored | BlockRemoved, kept: KeptBlocks | None) -> None:
    """What became of a tier behind the engine's own cache."""
    is_stored = isinstance(event, BlockStored)
    if event.medium == HOST:
        tell = tree.hosted if is_stored else tree.unhosted
    elif event.medium == STORAGE and is_stored and kept is not None:
        tell = kept.kept
    else:
        return
    for block in event.block_hashes:
        tell(block)


def _store(tree: BlockTree, event: BlockStored) -> None:
    size = event.block_size
    if event.kv_cache_spec_kind not in FULL_ATTENTION:
        raise UnsupportedCacheError(f"the model's cache is of the kind {event.kv_cache_spec_kind}")
    if size != tree.block_tokens or len(event.token_ids) != size * len(event.block_hashes):
        raise UnsupportedCacheError(f"the cache has blocks of {size} tokens and of {tree.block_tokens}")
    parent: BlockHash | None = event.parent_block_hash
    for place, block in enumerate(event.block_hashes):
        extras = list((event.extra_keys[place] if event.extra_keys else None) or ())
        if event.lora_name is not None and extras and extras[0] == event.lora_name:
            extras.pop(0)
        salt = extras.pop(0) if parent is None and extras and isinstance(extras[0], str) else None
        tree.stored(
            block,
            parent,
            event.token_ids[place * size : (place + 1) * size],
            salt=salt,
            adapter=event.lora_name,
            # Left over are images and embeddings.
            is_text=not extras,
        )
        parent = block
