"""One request's way back to its client, and what a server asks of whoever answers.

What must not live here: parsing, sockets (server.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from services.http1.certificate import common_name
from services.http1.request import HttpRequest

if TYPE_CHECKING:
    from services.http1.server import ServerConnection


class Fault:
    """Why a connection's bytes are not a request that can be served."""

    __slots__ = ("code", "message", "status")

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message


class Handler(Protocol):
    """What the server does with requests."""

    def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer; the answer may come later."""
        ...

    def fault(self, fault: Fault, request: HttpRequest | None) -> bytes:
        """The whole answer (head and body) to bytes that are no servable request; the connection closes after it."""
        ...


class Exchange:
    """One request's way back to its client."""

    __slots__ = ("_connection", "is_over", "keep_alive", "on_gone", "on_pause", "on_resume", "request")

    def __init__(self, connection: ServerConnection, request: HttpRequest) -> None:
        self._connection = connection
        self.request = request
        self.keep_alive = request.keep_alive
        self.is_over = False
        self.on_gone: Callable[[], object] | None = None
        """Called once when the client leaves before the answer's end."""
        self.on_pause: Callable[[], None] | None = None
        """Called when the client reads slower than the answer comes."""
        self.on_resume: Callable[[], None] | None = None

    @property
    def is_draining(self) -> bool:
        """Whether the server is going away, so that the connection should end with this answer."""
        return self._connection.is_draining

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._connection.peer

    @property
    def certificate(self) -> str | None:
        """The common name in the client's certificate; None where it showed none."""
        return common_name(self._connection.transport.get_extra_info("peercert"))

    def write(self, data: bytes) -> None:
        """Send bytes of the answer; after the client has left, nothing."""
        if not self.is_over:
            self._connection.transport.write(data)

    def finish(self, *, keep_alive: bool = True) -> None:
        """The answer is complete: the connection serves its next request, or closes."""
        if not self.is_over:
            self._over()
            self._connection.finished(keep_alive=keep_alive and self.keep_alive)

    def cut(self) -> None:
        """Close without completing the answer, once what was written is out: every client can tell it from an end."""
        self.finish(keep_alive=False)

    def gone(self) -> None:
        """The client has left."""
        if not self.is_over:
            on_gone = self.on_gone
            self._over()
            if on_gone is not None:
                on_gone()

    def _over(self) -> None:
        """Let go of whoever answered: request bodies must not wait for the cycle collector."""
        self.is_over = True
        self.on_gone = self.on_pause = self.on_resume = None
