"""Ending background tasks for certain.

What must not live here: what tasks do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_S = 0.5
"""After which a task that goes on is cancelled again."""


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all of them have ended; what they raise is theirs to tell.

    Once may not be enough: with Python 3.11 `asyncio.wait_for` swallows a cancellation that comes together with what it
    waits for, and redis-py sends every command through it.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
