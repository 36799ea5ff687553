"""Runs the HTTP server: listening, telling that it listens, draining.

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from cluster.core.errors import SetupError

logger = logging.getLogger(__name__)

KEEPALIVE_S = 75
"""Longer than clients and load balancers keep idle connections (60 s or less), so that they close first."""
BACKLOG = 2048
LAME_DUCK_S = 1.0
"""A stopping gateway says so at /ready and goes on to accept for this long: who balances load looks about that often,
and a connection opened meanwhile must not be refused."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

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
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SetupError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
            "stop what uses the port, or set gateway.port in the configuration (0 picks a free one)",
        ) from error
    listener.setblocking(False)
    return listener


class GatewayServer(uvicorn.Server):
    """uvicorn with a drain that load balancers can see, and signals that are ours."""

    def __init__(self, app: Any, *, ready_file: Path | None, on_drain: Callable[[], None], drain_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEPALIVE_S,
                # uvicorn's annotation says whole seconds, its code waits for any number of them.
                timeout_graceful_shutdown=max(1, round(drain_s)),
                backlog=BACKLOG,
            )
        )
        self._ready_file = ready_file
        self._on_drain = on_drain
        self._is_draining = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: `listen_to_signals` handles them."""
        yield

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
            self.should_exit = self.force_exit = True
            return
        self._is_draining = True
        self._on_drain()
        logger.info("draining", extra={"connections": len(self.server_state.connections)})
        asyncio.get_running_loop().call_later(lame_duck_s, self._stop_accepting)

    def _stop_accepting(self) -> None:
        self.should_exit = True

    async def listen(self, listener: socket.socket) -> None:
        """Serve on `listener` until drained."""
        try:
            await self.serve(sockets=[listener])
        finally:
            self._withdraw()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell that connections are accepted."""
        await super().startup(sockets=sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        logger.info("gateway listens", extra={"host": host, "port": port, "pid": os.getpid()})
        if self._ready_file is not None:
            partial = self._ready_file.with_name(self._ready_file.name + ".partial")
            partial.write_text(json.dumps({"port": port, "pid": os.getpid()}), encoding="utf-8")
            partial.replace(self._ready_file)

    def _withdraw(self) -> None:
        """Take the ready file back, unless it is another process's by now."""
        if self._ready_file is None:
            return
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._ready_file.read_text(encoding="utf-8"))["pid"] == os.getpid():
                self._ready_file.unlink()
