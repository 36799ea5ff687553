"""Tasks end when they are told to, also those that do not hear it at first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cluster import tasks
from cluster.tasks import end_tasks, in_own_thread


async def deaf(times: int) -> None:
    for _ in range(times):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def failing() -> None:
    raise ValueError


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_tasks_end(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    made = [asyncio.create_task(deaf(times)), asyncio.create_task(deaf(0)), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end_tasks(made)
    assert made[0].cancelled()
    assert isinstance(made[2].exception(), ValueError)
    await end_tasks([])


async def test_a_thread_of_its_own_answers_and_raises() -> None:
    assert await in_own_thread(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(lambda: 1 // 0)


def test_nobody_waits_for_a_thread_that_hangs() -> None:
    hanging, end = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        end.wait()

    async def begin() -> None:
        task = asyncio.create_task(in_own_thread(hang))
        await asyncio.to_thread(hanging.wait)
        task.cancel()

    asyncio.run(begin())
    assert not end.is_set()
    end.set()
