"""Runs the listeners: telling that they listen, signals, draining.

What must not live here: what is served (services/rest), building parts (main.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cluster.config import Config
from services.gateway.ready_file import write_ready_file
from services.grpc.server import GrpcServer
from services.http1.listener import Listener, bind, or_free

logger = logging.getLogger(__name__)

KEEPALIVE_S = 75
"""Longer than clients and load balancers keep idle connections (60 s or less), so that they close first."""
LAME_DUCK_S = 1.0
"""A stopping gateway says so at /ready and goes on to accept for this long: who balances load looks about that often,
and a connection opened meanwhile must not be refused."""


def bind_admin(config: Config) -> socket.socket:
    """The admin listener's socket.

    Raises:
        SetupError: the address cannot be had. A port nobody named gives way to a free one instead.
    """
    gateway = config.gateway
    return or_free(
        lambda port: bind(gateway.admin.host, port), gateway.admin_port, is_named=gateway.admin.port is not None
    )


def bind_grpc(config: Config) -> socket.socket | None:
    """Keeps the gRPC port for workers that share it; None where gRPC is off.

    Raises:
        SetupError: the address cannot be had. A port nobody named gives way to a free one instead.
    """
    gateway = config.gateway
    if not gateway.grpc.enabled:
        return None
    return or_free(
        lambda port: bind(gateway.host, port, share=True, listens=False),
        gateway.grpc_port,
        is_named=gateway.grpc.port is not None,
    )


class GatewayServer:
    """The client listeners, the admin listener, and their end."""

    def __init__(
        self,
        clients: Listener,
        others: Sequence[Listener] = (),
        *,
        ready_file: Path | None,
        on_drain: Callable[[], None],
        drain_s: Callable[[], float],
        grpc: GrpcServer | None = None,
        unread: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Nothing listens yet.

        Args:
            clients: the listener for clients.
            others: listeners that serve until the end.
            ready_file: written once everything listens.
            on_drain: called when draining begins.
            drain_s: the longest that answers may take then.
            grpc: the gRPC server.
            unread: waits for answers that are made while no client is there.
        """
        self._clients = clients
        self._others = tuple(others)
        self._ready_file = ready_file
        self._on_drain = on_drain
        self._drain_s = drain_s
        self._grpc = grpc
        self._unread = unread
        self._is_draining = False
        self._stop_accepting = asyncio.Event()
        self._end_now = asyncio.Event()

    @property
    def port(self) -> int:
        """Where clients reach it."""
        return self._clients.port

    def listen_to_signals(self, reload: Callable[[], None]) -> None:
        """SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reloads."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain, LAME_DUCK_S)
        # Somebody at a terminal waits for the prompt; nobody balances load there.
        loop.add_signal_handler(signal.SIGINT, self.drain, 0.0)
        loop.add_signal_handler(signal.SIGHUP, reload)

    def drain(self, lame_duck_s: float) -> None:
        """Stop accepting after `lame_duck_s`, let answers finish, then end; called again, end at once."""
        if self._is_draining:
            self._stop_accepting.set()
            self._end_now.set()
            return
        self._is_draining = True
        self._on_drain()
        if self._grpc is not None:
            self._grpc.lame_duck()
        logger.info("draining", extra={"connections": len(self._clients.connections)})
        asyncio.get_running_loop().call_later(lame_duck_s, self._stop_accepting.set)

    async def run(self) -> None:
        """Serve until drained."""
        for listener in (self._clients, *self._others):
            await listener.start()
        if self._grpc is not None:
            await self._grpc.start()
        self._tell()
        try:
            await self._stop_accepting.wait()
            self._clients.stop_accepting()
            drained = asyncio.create_task(self._drained(self._drain_s()))
            forced = asyncio.create_task(self._end_now.wait())
            await asyncio.wait({drained, forced}, return_when=asyncio.FIRST_COMPLETED)
            for task in (drained, forced):
                task.cancel()
        finally:
            if self._grpc is not None:
                await self._grpc.stop(0)
            for listener in (self._clients, *self._others):
                await listener.close()
            self._withdraw()

    async def _drained(self, limit_s: float) -> None:
        waits: list[Awaitable[object]] = [self._clients.drained(limit_s)]
        if self._grpc is not None:
            waits.append(self._grpc.stop(limit_s))
        if self._unread is not None:
            waits.append(_within(limit_s, self._unread()))
        await asyncio.gather(*waits)

    def _tell(self) -> None:
        """Say that connections are accepted."""
        told = {"port": self._clients.port, "pid": os.getpid()}
        if self._others:
            told["admin_port"] = self._others[0].port
        if self._grpc is not None:
            told["grpc_port"] = self._grpc.port
        logger.info("gateway listens", extra=told)
        if self._ready_file is not None:
            write_ready_file(self._ready_file, told)

    def _withdraw(self) -> None:
        """Take the ready file back, unless it is another process's by now."""
        if self._ready_file is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._ready_file.read_text(encoding="utf-8"))["pid"] == os.getpid():
                self._ready_file.unlink()


async def _within(limit_s: float, wait: Awaitable[object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await wait
