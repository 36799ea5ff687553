"""A proxy before Redis that is slow, or does something in the middle of a transfer.

What must not live here: engines, what should come of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Trigger:
    """Something to be done once so many bytes have passed in one direction."""

    after_bytes: int
    is_upwards: bool
    """To Redis, as stores go; loads come from it."""
    action: Callable[[], None]


class Proxy:
    """Listens on a port of its own; every connection has two threads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.delay_s = 0.0
        """Every piece from Redis comes so much later."""
        self._trigger: Trigger | None = None
        self._passed_bytes = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.triggered = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, trigger: Trigger) -> None:
        """Do this once, from now on."""
        with self._lock:
            self._passed_bytes = 0
            self.triggered.clear()
            self._trigger = trigger

    def close(self) -> None:
        """Accept no more."""
        self._closing.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            for source, sink, is_upwards in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, is_upwards), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_upwards: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.delay_s and not is_upwards:
                    self._closing.wait(self.delay_s)
                self._count(len(data), is_upwards=is_upwards)
                sink.sendall(data)
        # Both ways end together, as with a reset.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _count(self, size_bytes: int, *, is_upwards: bool) -> None:
        with self._lock:
            trigger = self._trigger
            if trigger is None or trigger.is_upwards is not is_upwards:
                return
            self._passed_bytes += size_bytes
            if self._passed_bytes < trigger.after_bytes:
                return
            self._trigger = None
            trigger.action()
        self.triggered.set()
