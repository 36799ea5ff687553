"""HTTP connections to replicas and foreign engines.

What lives here: one request out, its head and first bytes back, its chunks, and a typed reason where that fails.
What must not: which endpoint to try (dispatch.py), anything about the client's connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import aiohttp

from cluster.config import LimitsSection

REPLICA_KEEPALIVE_S = 15.0
"""Serve closes idle connections after 90 s; ours must always go first, or a request meets a closing one."""
STATIC_KEEPALIVE_S = 2.0
"""Foreign engines close idle connections as early as 5 s (llama.cpp, plain uvicorn)."""
CONNECTIONS_MAX = 0
"""No bound of its own: limits.concurrent_requests bounds them, and waiting for one would hide a queue from routing."""
CHUNK_QUEUE_BYTES = 256 * 1024
"""How much of an answer may wait in memory for a slow client before the replica is made to wait."""


class FailureKind(StrEnum):
    """How an endpoint failed to answer; these are metric labels."""

    CONNECT = "connect"
    """No connection: nothing there, or nobody accepts."""
    RESET = "reset"
    """The connection broke while an answer was awaited or under way."""
    TIMEOUT = "timeout"
    """Nothing came for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamFailure:
    """No answer, and why."""

    kind: FailureKind
    detail: str


class UpstreamBrokenError(Exception):
    """An answer under way broke off: what the client has is not complete."""

    def __init__(self, failure: UpstreamFailure) -> None:
        self.failure = failure
        super().__init__(failure.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCall:
    """One request to an endpoint."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    is_static: bool


class UpstreamAnswer(Protocol):
    """An endpoint's answer whose first bytes have arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers by lower-case name."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, from its first byte.

        Raises:
            UpstreamBrokenError: the answer broke off.
        """
        ...

    async def read_all(self, limit_bytes: int) -> bytes:
        """The whole body of a small answer, cut at `limit_bytes`.

        Raises:
            UpstreamBrokenError: the answer broke off.
        """
        ...

    def close(self) -> None:
        """Let go of the answer; one that is not complete is aborted, so that the engine stops."""
        ...


class Upstream(Protocol):
    """What dispatch needs of connections."""

    async def send(self, call: UpstreamCall, limits: LimitsSection) -> UpstreamAnswer | UpstreamFailure:
        """Send a request and wait for the first bytes of its answer's body."""
        ...


class AiohttpUpstream:
    """Pooled keep-alive connections: one pool for replicas, one for foreign engines."""

    def __init__(self) -> None:
        self._replicas = _session(REPLICA_KEEPALIVE_S)
        self._statics = _session(STATIC_KEEPALIVE_S)

    async def close(self) -> None:
        """Close every connection."""
        await self._replicas.close()
        await self._statics.close()

    async def send(self, call: UpstreamCall, limits: LimitsSection) -> UpstreamAnswer | UpstreamFailure:
        """As `Upstream.send`; cancelling it closes the connection, which aborts the engine's work."""
        session = self._statics if call.is_static else self._replicas
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s)
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(limits.first_byte_s):
                response = await session.post(
                    call.url, data=call.body, headers=call.headers, timeout=timeout, allow_redirects=False
                )
                # The head says little: an engine may send it, then die in prefill. The first bytes of the body do.
                first = await response.content.readany()
        except asyncio.CancelledError:
            _drop(response)
            raise
        except TimeoutError as error:
            _drop(response)
            is_connect = isinstance(error, aiohttp.ServerTimeoutError)
            kind = FailureKind.CONNECT if is_connect else FailureKind.TIMEOUT
            waited_s = limits.connect_s if is_connect else limits.first_byte_s
            return UpstreamFailure(kind=kind, detail=f"nothing within {waited_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return UpstreamFailure(kind=FailureKind.CONNECT, detail=str(error))
        except (aiohttp.ClientError, OSError) as error:
            _drop(response)
            return UpstreamFailure(kind=FailureKind.RESET, detail=f"{type(error).__name__}: {error}")
        return _AiohttpAnswer(response, first, limits.idle_s)

    async def probe(self, url: str, api_key: str | None, timeout_s: float) -> bool:
        """Whether a foreign engine answers at all: any status below 500 on its list of models."""
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._statics.get(f"{url}/v1/models", headers=headers, timeout=timeout) as response:
                return response.status < 500  # noqa: PLR2004 - HTTP's server errors
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def _session(keepalive_s: float) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX, limit_per_host=CONNECTIONS_MAX, keepalive_timeout=keepalive_s, ttl_dns_cache=10
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=CHUNK_QUEUE_BYTES,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "longreach-gateway"},
    )


def _drop(response: aiohttp.ClientResponse | None) -> None:
    if response is not None:
        response.close()


class _AiohttpAnswer:
    """One aiohttp response as an `UpstreamAnswer`."""

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, idle_s: float) -> None:
        self._response = response
        self._first = first
        self._idle_s = idle_s
        self.status = response.status
        self.headers: Mapping[str, str] = {key.lower(): value for key, value in response.headers.items()}

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        while chunk := await self._next():
            yield chunk

    async def read_all(self, limit_bytes: int) -> bytes:
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) >= limit_bytes:
                break
        return bytes(body[:limit_bytes])

    def close(self) -> None:
        # After the last byte aiohttp has given the connection back already, and this does nothing to it.
        self._response.close()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_s):
                return await self._response.content.readany()
        except TimeoutError as error:
            failure = UpstreamFailure(kind=FailureKind.TIMEOUT, detail=f"silent for {self._idle_s:g} s")
            raise UpstreamBrokenError(failure) from error
        except (aiohttp.ClientError, OSError) as error:
            failure = UpstreamFailure(kind=FailureKind.RESET, detail=f"{type(error).__name__}: {error}")
            raise UpstreamBrokenError(failure) from error
