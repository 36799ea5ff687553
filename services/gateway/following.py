"""Following the state store beside requests, through its absences.

What must not live here: what is read, and what is made of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


async def follow_store(step: Callable[[], Awaitable[None]], *, what: str, retry_s: float) -> None:
    """Take one step after another until cancelled; an absence of the store is told once.

    Args:
        step: reads, and waits for news itself.
        what: is followed, for the log.
        retry_s: between two tries while the store is away.
    """
    is_away = False
    while True:
        try:
            await step()
            is_away = False
        except (RedisError, OSError, ValueError) as error:
            if not is_away:
                logger.warning("%s cannot be followed, going on with what is known: %s", what, error)
            is_away = True
            await asyncio.sleep(retry_s)
