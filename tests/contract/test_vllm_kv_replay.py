"""The sockets of the pinned vLLM's event publisher: frames, numbers, replay. The publisher is vLLM's own.

What the events mean: test_vllm_kv_events.py. A failure after a new pin means: look at the module named in the test.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.engine.residency import events
from cluster.engine.residency.events import Subscription
from cluster.engine.residency.sockets import make_event_sockets

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")


class Publisher:
    """VLLM's own, on private sockets."""

    def __init__(self, folder: Path, **more: Any) -> None:
        from vllm.distributed.kv_events import ZmqEventPublisher

        self.sockets = make_event_sockets(below=folder)
        self.vllm = ZmqEventPublisher(0, endpoint=self.sockets.events, replay_endpoint=self.sockets.replay, **more)

    def publish(self, *numbers: int) -> None:
        from vllm.distributed.kv_events import BlockRemoved, KVEventBatch

        for number in numbers:
            removed = BlockRemoved(block_hashes=[number], medium="GPU", group_idx=0)
            self.vllm.publish(KVEventBatch(ts=0.0, events=[removed]))

    async def settled(self) -> None:
        while self.vllm._event_queue.unfinished_tasks:  # noqa: ASYNC110 - its thread has no event for it
            await asyncio.sleep(0.01)

    def subscription(self) -> Subscription:
        return Subscription(events=self.sockets.events, replay=self.sockets.replay)


@pytest.fixture
def publisher(tmp_path: Path) -> Any:
    made: list[Publisher] = []

    def make(**more: Any) -> Publisher:
        made.append(Publisher(tmp_path, **more))
        return made[-1]

    yield make
    for one in made:
        one.vllm.shutdown()
        one.sockets.remove()


async def take(batches: Any, count: int) -> list[int | None]:
    found: list[int | None] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            batch = await anext(batches)
            found.append(None if batch is None else batch.events[0].block_hashes[0])
    return found


async def test_batches_come_in_order_from_the_first_on(publisher: Any) -> None:
    """cluster/engine/residency/events.py: what was published before anybody listened is replayed."""
    made = publisher()
    made.publish(1, 2, 3)
    await made.settled()
    batches = made.subscription().batches()
    assert await take(batches, 3) == [1, 2, 3]
    made.publish(4, 5)
    assert await take(batches, 2) == [4, 5]
    await batches.aclose()


async def test_a_gap_is_closed_by_the_replay(publisher: Any) -> None:
    """cluster/engine/residency/events.py: numbers and frames of both sockets."""
    made = publisher()
    subscription = made.subscription()
    batches = subscription.batches()
    made.publish(1)
    assert await take(batches, 1) == [1]
    made.publish(2, 3)
    await made.settled()
    # As if they had got lost on the way: whatever comes next shows the gap.
    sent = made.vllm._pub.send_multipart
    made.vllm._pub.send_multipart = len
    made.publish(4)
    await made.settled()
    made.vllm._pub.send_multipart = sent
    made.publish(5)
    assert await take(batches, 4) == [2, 3, 4, 5]
    await batches.aclose()


async def test_a_gap_that_cannot_be_closed_is_told(publisher: Any) -> None:
    """cluster/engine/residency/events.py: the replay keeps the last batches only."""
    made = publisher(buffer_steps=2)
    made.publish(1, 2, 3, 4, 5)
    await made.settled()
    batches = made.subscription().batches()
    assert await take(batches, 3) == [None, 4, 5]
    await batches.aclose()


async def test_without_a_replay_a_gap_is_told(publisher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """cluster/engine/residency/events.py: an engine that does not answer must not stop the rest."""
    monkeypatch.setattr(events, "REPLAY_TIMEOUT_S", 0.2)
    made = publisher()
    made.vllm._service_replay = made.vllm._replay.recv_multipart  # and no answer
    made.publish(1)
    await made.settled()
    batches = made.subscription().batches()
    waiting = asyncio.ensure_future(anext(batches))
    while not waiting.done():
        made.publish(2)
        await asyncio.wait({waiting}, timeout=0.1)
    assert waiting.result() is None
    await batches.aclose()
