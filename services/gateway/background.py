"""Loops that run beside the server for as long as it does.

What must not live here: what any of them does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from cluster.tasks import end_tasks

logger = logging.getLogger(__name__)

RESTART_S = 1.0
"""Between two tries of a background task that failed."""


@contextlib.asynccontextmanager
async def background(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run coroutines beside the server; one that fails is logged and started again."""
    tasks = [asyncio.create_task(_keep_running(loop)) for loop in loops]
    try:
        yield
    finally:
        await end_tasks(tasks)


async def _keep_running(loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await loop()
        except Exception:
            logger.exception("background task failed, starting it again")
        await asyncio.sleep(RESTART_S)
