"""A request as the server's connection read it, and the bounds on reading it.

What must not live here: sockets, what a path means.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds on what a client may send, and how long it may take."""

    header_bytes: int
    header_s: float
    """From a request's first byte to the end of its head."""
    body_bytes: int
    stall_s: float
    """The longest pause inside a body."""
    unread_s: float
    """The longest a client may leave bytes of an answer unread."""
    keepalive_s: float
    """The longest an idle connection is kept."""


class HttpRequest:
    """One request, whole. `headers` has lower-case names; a name that came twice has both values, comma-separated."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query", "version")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        """Percent-encoded, as it came."""
        self.query = b""
        self.version = "1.1"
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True
