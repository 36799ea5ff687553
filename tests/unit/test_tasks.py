"""Tasks end when they are told to, also those that do not hear it at first."""

from __future__ import annotations

import asyncio

import pytest

from cluster import tasks
from cluster.tasks import end_tasks


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
