"""What this gateway process is asked for, by pool: counted beside requests, told to whoever scales pools.

What must not live here: deciding how many replicas that needs (cluster/core/autoscaling).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from redis.exceptions import RedisError

from cluster.core.autoscaling.asked import PUBLISH_S, UNCHANGED_PUBLISH_S, GatewayAsked, PoolAsked
from cluster.core.lease import PoolName
from services.gateway.following import follow_store
from services.gateway.waiting import Standing

logger = logging.getLogger(__name__)
RETRY_S = 1.0
GOODBYE_S = 1.0
"""A gateway that ends does not wait longer for the store; its word expires by itself."""
NOBODY = Standing()


class AskedWriter(Protocol):
    """What is needed of the state store; cluster/state's AutoscaleStore is one."""

    async def put_asked(self, asked: GatewayAsked) -> None:
        """Tell what a gateway is asked for."""
        ...

    async def drop_asked(self, gateway: str) -> None:
        """A gateway ends."""
        ...


class _Count:
    __slots__ = ("answers", "cached_tokens", "output_tokens", "prefill_tokens", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.prefill_tokens = 0
        self.cached_tokens = 0
        self.answers = 0
        self.output_tokens = 0


class Demand:
    """Counts since this process began, and tells them with who waits now.

    Args:
        store: where to; None: nowhere.
        gateway: this process's id.
        standing: the lines of the waiting room.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: AskedWriter | None,
        *,
        gateway: str,
        standing: Callable[[], Mapping[PoolName, Standing]],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._standing = standing
        self._clock = clock
        self._counts: dict[PoolName, _Count] = {}
        self._told: GatewayAsked | None = None
        self._told_s = 0.0

    def arrived(self, pool: PoolName, *, prefill_tokens: int, cached_tokens: int = 0) -> None:
        """A request came whose smallest fitting pool is `pool`: so many prompt tokens to compute, so many cached."""
        count = self._counts.get(pool)
        if count is None:
            count = self._counts[pool] = _Count()
        count.requests += 1
        count.prefill_tokens += prefill_tokens
        count.cached_tokens += cached_tokens

    def ended(self, pool: PoolName, output_tokens: int) -> None:
        """Such a request has ended, with so many tokens generated."""
        count = self._counts.get(pool)
        if count is not None:
            count.answers += 1
            count.output_tokens += output_tokens

    def asked(self) -> GatewayAsked:
        """All there is to tell now."""
        lines = self._standing()
        return GatewayAsked(
            gateway=self._gateway,
            pools={
                pool: _asked(self._counts.get(pool) or _Count(), lines.get(pool, NOBODY))
                for pool in sorted(self._counts.keys() | lines.keys())
            },
        )

    async def follow(self) -> None:
        """Tell it again and again, until cancelled."""
        if self._store is not None:
            await follow_store(self._tell, what="demand", retry_s=RETRY_S)

    async def close(self) -> None:
        """Say goodbye."""
        if self._store is None:
            return
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._store.drop_asked(self._gateway)

    async def _tell(self) -> None:
        asked, now_s = self.asked(), self._clock()
        if asked != self._told or now_s - self._told_s >= UNCHANGED_PUBLISH_S:
            assert self._store is not None
            await self._store.put_asked(asked)
            self._told, self._told_s = asked, now_s
        await asyncio.sleep(PUBLISH_S)


def _asked(count: _Count, line: Standing) -> PoolAsked:
    return PoolAsked(
        requests=count.requests,
        prefill_tokens=count.prefill_tokens,
        cached_tokens=count.cached_tokens,
        answers=count.answers,
        output_tokens=count.output_tokens,
        held=line.requests,
        held_tokens=line.prefill_tokens,
        oldest_wait_s=line.oldest_wait_s,
    )
