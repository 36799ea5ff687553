"""Asks foreign engines whether they live: they write no lease.

What must not live here: what a failed probe means for routing (directory.py).
"""

from __future__ import annotations

import asyncio
import logging

from cluster.core.lease import ReplicaId
from services.gateway.catalog import StaticEndpoint
from services.gateway.current import Current
from services.gateway.directory import Directory
from services.gateway.upstream import HttpUpstream

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 3.0
"""A request that meets a dead engine goes on to the next anyway, so this only saves a try."""
PROBE_TIMEOUT_S = 5.0
"""A busy engine on a small machine may take seconds to list its models."""


class StaticProbes:
    """Keeps the directory's picture of static endpoints."""

    def __init__(self, current: Current, directory: Directory, upstream: HttpUpstream) -> None:
        self._current = current
        self._directory = directory
        self._upstream = upstream
        self._down: frozenset[ReplicaId] = frozenset()

    async def follow(self) -> None:
        """Probe again and again until cancelled."""
        while True:
            await self.probe_all()
            await asyncio.sleep(PROBE_EVERY_S)

    async def probe_all(self) -> None:
        """Probe every static endpoint once, all at the same time."""
        statics = self._current.catalog.statics
        alive = await asyncio.gather(*(self._is_alive(static) for static in statics))
        down = frozenset(static.replica_id for static, lives in zip(statics, alive, strict=True) if not lives)
        for replica_id in sorted(down ^ self._down):
            logger.warning("static endpoint %s", "down" if replica_id in down else "up", extra={"replica": replica_id})
        self._down = down
        self._directory.set_down(down)

    async def _is_alive(self, static: StaticEndpoint) -> bool:
        return await self._upstream.probe(static.url, static.api_key, PROBE_TIMEOUT_S)
