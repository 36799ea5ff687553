"""Ending background tasks for certain; threads that nobody waits for.

What must not live here: what tasks do.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

T = TypeVar("T")

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


async def in_own_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread that nobody waits for at the end, as the event loop does for its own threads.

    Raises:
        Exception: what the function raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(cast("T", result))
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            result, error = function(), None
        except Exception as raised:  # noqa: BLE001 - it is the caller's
            result, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
