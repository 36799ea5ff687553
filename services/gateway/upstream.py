"""Requests to replicas and foreign engines: one out, its answer's head and first bytes back, or why there is none.

What must not live here: which endpoint to try (dispatch.py), anything about the client's connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from cluster.config import LimitsSection
from services.http1.client import ClientConnection, FailureKind
from services.http1.pool import ConnectionPool, Origin

__all__ = [
    "AnswerReader",
    "FailureKind",
    "HttpUpstream",
    "Upstream",
    "UpstreamAnswer",
    "UpstreamCall",
    "UpstreamFailure",
]

REPLICA_KEEPALIVE_S = 15.0
"""Serve closes idle connections after 90 s; ours must always go first, or a request meets a closing one."""
STATIC_KEEPALIVE_S = 2.0
"""Foreign engines close idle connections as early as 5 s (llama.cpp, plain uvicorn)."""
JOINED_BODY_BYTES = 64 * 1024
"""Up to this size head and body go out as one piece; beyond it, copying costs more than a second buffer."""
TARGETS_MAX = 4096
"""Endpoint addresses whose fixed head lines are kept; replicas come and go under new ports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailure:
    """No answer, or an answer broken off, and why."""

    kind: FailureKind
    detail: str


class UpstreamCall(NamedTuple):
    """One request to an endpoint."""

    url: str
    """Scheme, host, port, and the path in front of `path`."""
    path: str
    lines: str
    """Header lines, each with its end; Latin-1, what is not becomes `?`."""
    body: bytes
    is_static: bool


class AnswerReader(Protocol):
    """Takes an answer's body as it arrives."""

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """The next bytes; empty only at the end."""
        ...

    def broke_off(self, failure: UpstreamFailure) -> None:
        """What arrived is not complete; nothing follows."""
        ...


class UpstreamAnswer:
    """An endpoint's answer whose first bytes have arrived."""

    __slots__ = ("_connection", "_failure", "_first", "_held", "_is_complete", "_reader", "headers", "status")

    def __init__(self, connection: ClientConnection, first: asyncio.Future[UpstreamFailure | None]) -> None:
        self._connection = connection
        self._first = first
        self._held: list[bytes] = []
        self._is_complete = False
        self._failure: UpstreamFailure | None = None
        self._reader: AnswerReader | None = None
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def read(self, reader: AnswerReader) -> None:
        """Hand over what is here, and from now on every byte as it comes."""
        held, self._held = self._held, []
        if self._is_under_way:
            self._reader = reader
        if held or self._is_complete:
            reader.data(held[0] if len(held) == 1 else b"".join(held), is_last=self._is_complete)
        if self._failure is not None:
            reader.broke_off(self._failure)

    def pause(self) -> None:
        """Let the endpoint wait; nothing once the answer is through, for its connection may have another's by then."""
        if self._is_under_way:
            self._connection.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self._is_under_way:
            self._connection.resume()

    def close(self) -> None:
        """Let go of the answer; one that is not complete is aborted, so that the engine stops."""
        if self._is_under_way:
            self._failure = UpstreamFailure(kind=FailureKind.RESET, detail="closed by the gateway")
            self._reader = None
            self._connection.abandon()

    @property
    def _is_under_way(self) -> bool:
        return not self._is_complete and self._failure is None

    # services/http1's side

    def head(self, status: int, headers: dict[str, str]) -> None:
        """The head. It says little: an engine may send it, then die in prefill. The first bytes of the body do."""
        self.status = status
        self.headers = headers

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """Bytes of the body."""
        self._is_complete = is_last
        reader = self._reader
        if reader is not None:
            if is_last:
                self._reader = None  # a circle would keep the request's body until the collector comes by
            reader.data(payload, is_last=is_last)
            return
        self._held.append(payload)
        if not self._first.done():
            self._first.set_result(None)

    def broken(self, kind: FailureKind, detail: str) -> None:
        """No more will come."""
        failure = self._failure = UpstreamFailure(kind=kind, detail=detail)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.broke_off(failure)
        elif not self._first.done():
            self._first.set_result(failure)


class Upstream(Protocol):
    """What dispatch needs of connections."""

    async def send(self, call: UpstreamCall, limits: LimitsSection) -> UpstreamAnswer | UpstreamFailure:
        """Send a request and wait for the first bytes of its answer's body."""
        ...


class HttpUpstream:
    """Pooled keep-alive connections to every endpoint."""

    def __init__(self) -> None:
        self._pool = ConnectionPool()
        self._targets: dict[tuple[str, str, bool], tuple[Origin, bytes]] = {}

    def start(self) -> None:
        """Begin to look after connections; needs the running loop."""
        self._pool.start()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def send(self, call: UpstreamCall, limits: LimitsSection) -> UpstreamAnswer | UpstreamFailure:
        """As `Upstream.send`; cancelling it closes the connection, which aborts the engine's work."""
        origin, fixed = self._target(call.url, call.path, is_static=call.is_static)
        connection = self._pool.idle(origin)
        if connection is None:
            try:
                connection = await self._pool.connect(origin, limits.connect_s)
            except TimeoutError:
                return UpstreamFailure(kind=FailureKind.CONNECT, detail=f"no connection within {limits.connect_s:g} s")
            except OSError as error:
                return UpstreamFailure(kind=FailureKind.CONNECT, detail=str(error))
        first: asyncio.Future[UpstreamFailure | None] = asyncio.get_running_loop().create_future()
        answer = UpstreamAnswer(connection, first)
        body = call.body
        head = b"%b%bcontent-length: %d\r\n\r\n" % (fixed, call.lines.encode("latin-1", "replace"), len(body))
        request = head + body if len(body) <= JOINED_BODY_BYTES else [head, body]
        connection.exchange(request, answer, first_s=limits.first_byte_s, idle_s=limits.idle_s)
        try:
            failure = await first
        except asyncio.CancelledError:
            answer.close()
            raise
        return answer if failure is None else failure

    def cut(self, url: str, why: str) -> int:
        """Break off every answer of a replica that is under way or owed; how many there were."""
        return self._pool.cut(_origin(url, is_static=False), why)

    async def probe(self, url: str, api_key: str | None, timeout_s: float) -> bool:
        """Whether a foreign engine answers at all: any status below 500 on its list of models."""
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        answer = await self.get(url, "/v1/models", headers, timeout_s)
        if isinstance(answer, UpstreamFailure):
            return False
        answer.close()
        return answer.status < 500  # noqa: PLR2004 - HTTP's server errors

    async def get(
        self, url: str, path: str, headers: Mapping[str, str], timeout_s: float
    ) -> UpstreamAnswer | UpstreamFailure:
        """GET on a connection of its own, and wait for the first bytes of the answer's body; cancelling closes it.

        Args:
            url: of the endpoint.
            path: below it.
            headers: besides the host; Latin-1.
            timeout_s: the longest wait to connect, for the first byte, and between two.
        """
        origin, _ = self._target(url, path, is_static=True)
        below = urlsplit(url).path.rstrip("/") + path
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"GET {below} HTTP/1.1\r\nhost: {_host(origin)}\r\n{lines}connection: close\r\n\r\n"
        try:
            connection = await self._pool.connect(origin, timeout_s)
        except TimeoutError:
            return UpstreamFailure(kind=FailureKind.TIMEOUT, detail=f"no connection within {timeout_s:g} s")
        except OSError as error:
            return UpstreamFailure(kind=FailureKind.CONNECT, detail=str(error))
        first: asyncio.Future[UpstreamFailure | None] = asyncio.get_running_loop().create_future()
        answer = UpstreamAnswer(connection, first)
        connection.exchange(request.encode("latin-1", "replace"), answer, first_s=timeout_s, idle_s=timeout_s)
        try:
            failure = await first
        except asyncio.CancelledError:
            answer.close()
            raise
        return answer if failure is None else failure

    def _target(self, url: str, path: str, *, is_static: bool) -> tuple[Origin, bytes]:
        """Where an endpoint is, and the head lines that every request for this path there begins with."""
        key = (url, path, is_static)
        found = self._targets.get(key)
        if found is None:
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            origin = _origin(url, is_static=is_static)
            fixed = (
                f"POST {urlsplit(url).path.rstrip('/')}{path} HTTP/1.1\r\n"
                f"host: {_host(origin)}\r\n"
                "user-agent: longreach-gateway\r\n"
                "accept-encoding: identity\r\n"
                "content-type: application/json\r\n"
            )
            found = self._targets[key] = (origin, fixed.encode("latin-1"))
        return found


def _origin(url: str, *, is_static: bool) -> Origin:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    keepalive_s = STATIC_KEEPALIVE_S if is_static else REPLICA_KEEPALIVE_S
    return Origin(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls, keepalive_s)


def _host(origin: Origin) -> str:
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{name}:{origin.port}"
