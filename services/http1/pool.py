"""Keep-alive connections to many servers, and the sweep that ends silent and idle ones.

What must not live here: HTTP (client.py), choosing a server.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from services.http1.client import READ_BYTES, ClientConnection
from services.http1.silence import SILENCE_S, end_when_silent, standing

SWEEP_S = 0.05
"""How late a time limit may be noticed."""
WATCH_S = 1.0
"""How late a silent machine may be noticed. The kernel is asked about each connection that awaits an answer: 5 µs."""
IDLE_MAX = 1024
"""Idle connections kept for one server: as many as may be in flight at once; the rest are closed after use."""


class Origin(NamedTuple):
    """Where connections go. A tuple, since it is hashed twice a request."""

    host: str
    port: int
    is_tls: bool = False
    keepalive_s: float = 15.0
    """How long an idle connection is kept: less than the server keeps it, or a request meets a closing one."""


class ConnectionPool:
    """Connections by origin. Their number is bounded by the requests in flight, which the gateway bounds."""

    def __init__(self, silence_s: float = SILENCE_S, *, tls: ssl.SSLContext | None = None) -> None:
        """Prepare.

        Args:
            silence_s: how long a machine may owe a sign of life.
            tls: of origins with TLS; None: the usual authorities.
        """
        self._silence_s = silence_s
        self._idle: dict[Origin, list[ClientConnection]] = {}
        self._all: dict[ClientConnection, Origin] = {}
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._tls = tls
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep; needs the running loop."""
        self._sweeper = asyncio.create_task(self._sweep())

    def idle(self, origin: Origin) -> ClientConnection | None:
        """A connection that waits for work; the last one used, so that the others can go."""
        waiting = self._idle.get(origin)
        while waiting:
            connection = waiting.pop()
            if not connection.is_lost and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, origin: Origin, timeout_s: float) -> ClientConnection:
        """A new connection.

        Raises:
            OSError: nobody accepts there.
            TimeoutError: nobody did within `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: ClientConnection(self._buffer, lambda done: self._keep(origin, done), self._forget),
                origin.host,
                origin.port,
                ssl=self._tls_context() if origin.is_tls else None,
            )
        end_when_silent(connection.transport)
        self._all[connection] = origin
        return connection

    def cut(self, origin: Origin, why: str) -> int:
        """Break off every answer that is under way or owed from there; how many there were."""
        awaiting = [item for item, where in self._all.items() if where == origin and item.awaits]
        for connection in awaiting:
            connection.cut(why)
        return len(awaiting)

    async def close(self) -> None:
        """Close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.abandon()
        self._idle.clear()
        await asyncio.sleep(0)

    def _keep(self, origin: Origin, connection: ClientConnection) -> None:
        waiting = self._idle.setdefault(origin, [])
        if len(waiting) >= IDLE_MAX:
            connection.transport.close()
            return
        connection.rest(origin.keepalive_s)
        waiting.append(connection)

    def _forget(self, connection: ClientConnection) -> None:
        self._all.pop(connection, None)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        watched_s = loop.time()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            if now_s - watched_s >= WATCH_S:
                watched_s = now_s
                self._end_silent()
            for connection in [item for item in self._all if item.expires_s <= now_s]:
                connection.expire()
            for origin, waiting in list(self._idle.items()):
                kept = [item for item in waiting if not item.is_lost]
                if kept:
                    self._idle[origin] = kept
                else:
                    del self._idle[origin]

    def _end_silent(self) -> None:
        for connection in [item for item in self._all if item.awaits]:
            stands = standing(connection.transport)
            if stands is not None and stands.is_silent(self._silence_s):
                connection.cut("the machine does not answer")
