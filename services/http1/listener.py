"""A listening socket and the connections that came of it: accepting, time limits, draining.

What must not live here: requests (server.py), signals (services/gateway/server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cluster.core.errors import SetupError
from services.http1.exchange import Handler
from services.http1.request import ServerLimits
from services.http1.server import ServerConnection

T = TypeVar("T")
BACKLOG = 2048
SWEEP_S = 0.1
"""How late a connection's time limit may be noticed. One sweep over 10,000 connections takes about a millisecond."""
TLS_HANDSHAKE_S = 10.0


def bind(host: str, port: int, *, share: bool = False, listens: bool = True) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Args:
        host: name or address.
        port: the port.
        share: other sockets of this program may listen on the same port (SO_REUSEPORT).
        listens: False only reserves the port for sockets that share it: no connection comes here.

    Raises:
        SetupError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            if listens:
                listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SetupError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
            "stop what uses the port, or choose another in the configuration (0 picks a free one)",
        ) from error
    listener.setblocking(False)
    return listener


def or_free(bind_port: Callable[[int], T], port: int, *, is_named: bool) -> T:
    """What `bind_port` makes of `port`; where that is taken and nobody named it, of any free one (0).

    Raises:
        SetupError: the port cannot be had, and somebody named it; or none can.
    """
    try:
        return bind_port(port)
    except SetupError:
        if is_named:
            raise
        return bind_port(0)


def bind_path(path: Path) -> socket.socket:
    """A listening Unix socket; its folder decides who may connect.

    Raises:
        SetupError: the path cannot be had.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SetupError(f"cannot listen on {path}: {error.strerror or error}", "choose a shorter path") from error
    listener.setblocking(False)
    return listener


class Listener:
    """Serves one handler on one socket."""

    def __init__(
        self,
        handler: Handler,
        limits: Callable[[], ServerLimits],
        listener: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._socket = listener
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.connections: set[ServerConnection] = set()

    @property
    def port(self) -> int:
        """The port it listens on; 0 for a Unix socket."""
        name = self._socket.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        timeout_s = TLS_HANDSHAKE_S if self._tls is not None else None
        create = loop.create_unix_server if self._socket.family is socket.AF_UNIX else loop.create_server
        self._server = await create(
            lambda: ServerConnection(self._handler, self._limits, self.connections),
            sock=self._socket,
            backlog=BACKLOG,
            ssl=self._tls,
            ssl_handshake_timeout=timeout_s,
        )
        self._sweeper = asyncio.create_task(self._sweep())

    def stop_accepting(self) -> None:
        """Accept nothing more; connections without a request close, the others after their answer."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.drain()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every connection is closed; False when some are not after `timeout_s`."""
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while self.connections:
            if asyncio.get_running_loop().time() >= deadline_s:
                return False
            await asyncio.sleep(SWEEP_S / 2)
        return True

    async def close(self) -> None:
        """End every connection, whatever it is doing."""
        self.stop_accepting()
        for connection in list(self.connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for connection in [item for item in self.connections if item.expires_s <= now_s]:
                connection.expire()
