"""Requests over REST: the gateway's own client connections, and an answer read from what they bring.

What must not live here: when requests go out (runner.py), reading events (reading.py).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

import orjson

from cluster.core.wire import HEADER_POOL, HEADER_REPLICA
from loadtest.client.aim import ANSWER_BYTES_MAX, CONNECT_TIMEOUT_S, Aim, Ask
from loadtest.client.answer import Answer, ErrorKind, kind_of
from loadtest.client.reading import StreamReader, code_in, ids_in, loaded, said_in, tokens_in
from loadtest.plan import Kind
from services.http1.client import NEVER_S, ClientConnection, FailureKind
from services.http1.pool import ConnectionPool, Origin

KEEPALIVE_S = 4.0
"""Servers close idle connections as early as 5 s (plain uvicorn); ours go first, or a request meets a closing one."""
PATHS = {Kind.CHAT: "/v1/chat/completions", Kind.COMPLETION: "/v1/completions"}
OK = 200
EVENT_STREAM = "text/event-stream"
TOO_LONG = "answer_too_long"
Request = tuple[list[bytes], bool]
"""Head and body, and whether the text is wanted."""


class RestTransport:
    """Sends to one gateway; needs the running loop."""

    def __init__(self, aim: Aim) -> None:
        """Prepare; nothing is sent yet.

        Args:
            aim: where to.
        """
        parts = urlsplit(aim.url)
        is_tls = parts.scheme == "https"
        host = parts.hostname or ""
        self._aim = aim
        self._origin = Origin(host, parts.port or (443 if is_tls else 80), is_tls, KEEPALIVE_S)
        tls = ssl.create_default_context(cafile=aim.ca_file) if is_tls else None
        self._pool = ConnectionPool(tls=tls)
        self._pool.start()
        named = f"[{host}]" if ":" in host else host
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._heads = {
            kind: (
                f"POST {prefix}{path} HTTP/1.1\r\nhost: {named}:{self._origin.port}\r\n"
                "user-agent: longreach-loadtest\r\naccept-encoding: identity\r\ncontent-type: application/json\r\n"
            )
            for kind, path in PATHS.items()
        }

    def prepare(self, ask: Ask) -> Request:
        """Head and body as bytes."""
        body = orjson.dumps(body_of(ask, self._aim))
        lines = "".join(f"{name}: {value}\r\n" for name, value in ask.headers.items())
        head = f"{self._heads[ask.kind]}{lines}content-length: {len(body)}\r\n\r\n"
        return [head.encode("latin-1", "replace"), body], ask.wants_text

    async def send(self, prepared: object, answer: Answer, *, deadline_s: float) -> None:
        """As `Transport.send`."""
        assert isinstance(prepared, tuple)
        request, wants_text = prepared
        answer.sent_s = time.monotonic()
        arriving = _Arriving(answer, keeps_text=wants_text)
        try:
            async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
                await self._exchange(request, arriving)
        except TimeoutError:
            answer.fail(ErrorKind.TIMEOUT, "client_timeout")
        except OSError as error:
            answer.fail(ErrorKind.CONNECTION, _code_of(error))
        answer.ended_s = answer.ended_s or time.monotonic()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def _exchange(self, request: list[bytes], arriving: _Arriving) -> None:
        connection = self._pool.idle(self._origin)
        if connection is None:
            try:
                connection = await self._pool.connect(self._origin, CONNECT_TIMEOUT_S)
            except TimeoutError:
                raise ConnectionError(errno.ETIMEDOUT, "connect timeout") from None
        arriving.connection = connection
        # The one time limit is the request's own.
        connection.exchange(request, arriving, first_s=NEVER_S, idle_s=NEVER_S)
        try:
            await arriving.over
        except asyncio.CancelledError:
            connection.abandon()
            raise


class _Arriving:
    """One answer as its bytes come; `over` is done at its end."""

    def __init__(self, answer: Answer, *, keeps_text: bool) -> None:
        self.answer = answer
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection: ClientConnection | None = None
        self._keeps_text = keeps_text
        self._reader: StreamReader | None = None
        self._body = bytearray()

    def head(self, status: int, headers: dict[str, str]) -> None:
        """The head is whole."""
        answer = self.answer
        answer.status = status
        answer.pool, answer.replica = headers.get(HEADER_POOL, ""), headers.get(HEADER_REPLICA, "")
        if status == OK and headers.get("content-type", "").startswith(EVENT_STREAM):
            answer.is_stream = True
            self._reader = StreamReader(answer.event_times, keeps_text=self._keeps_text)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        """What one read brought."""
        now_s = time.monotonic()
        reader = self._reader
        if reader is not None:
            if payload:
                reader.take(payload, now_s)
            is_too_long = reader.is_too_long or reader.held_bytes > ANSWER_BYTES_MAX
        else:
            self._body += payload
            is_too_long = len(self._body) > ANSWER_BYTES_MAX
        if is_too_long and not is_last:
            self.answer.fail(ErrorKind.CLIENT, TOO_LONG)
            assert self.connection is not None
            self.connection.abandon()
            self._end(now_s)
        elif is_last:
            self._complete(now_s)

    def broken(self, kind: FailureKind, detail: str) -> None:  # noqa: ARG002 - a word of the system's, no code
        """No more will come."""
        if self._reader is not None:
            self._read_end(self._reader)
        has_begun = self.answer.status != 0
        self.answer.fail(ErrorKind.BROKEN if has_begun else ErrorKind.CONNECTION, f"connection_{kind}")
        self._end(time.monotonic())

    def _complete(self, now_s: float) -> None:
        answer = self.answer
        if self._reader is not None:
            self._read_end(self._reader)
            if not self._reader.is_done:
                answer.fail(ErrorKind.BROKEN, "no_done")
        else:
            self._read_whole(loaded(bytes(self._body)), now_s)
        self._end(now_s)

    def _read_end(self, reader: StreamReader) -> None:
        answer = self.answer
        answer.prompt_tokens, answer.cached_tokens, answer.output_tokens = tokens_in(reader.usage())
        code = reader.error_code()
        if code is not None:
            answer.fail(ErrorKind.BROKEN, code)
        if self._keeps_text:
            answer.said, answer.token_ids = reader.text, reader.token_ids

    def _read_whole(self, told: Any, now_s: float) -> None:
        answer = self.answer
        if kind_of(answer.status) is not ErrorKind.NONE:
            answer.fail(kind_of(answer.status), code_in(told))
            return
        answer.prompt_tokens, answer.cached_tokens, answer.output_tokens = tokens_in(told.get("usage") or {})
        choices = told.get("choices")
        if not choices:
            answer.fail(ErrorKind.BROKEN, "no_choices")
            return
        answer.event_times.append(now_s)
        if self._keeps_text:
            said, ids = said_in(choices[0]), ids_in(choices[0])
            answer.said, answer.token_ids = lambda: said, lambda: ids

    def _end(self, now_s: float) -> None:
        self.answer.ended_s = now_s
        if not self.over.done():
            self.over.set_result(None)


def _code_of(error: OSError) -> str:
    """A short word for why there is no connection, as `econnrefused` or `certificate_verify_failed`."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "tls").lower()
    return errno.errorcode.get(error.errno or 0, type(error).__name__).lower()


def body_of(ask: Ask, aim: Aim) -> dict[str, Any]:
    """The request's JSON."""
    body: dict[str, Any] = {"model": aim.model}
    if ask.kind is Kind.CHAT:
        body["messages"] = [{"role": role, "content": text} for role, text in ask.messages]
    else:
        body["prompt"] = ask.messages[0][1]
    # Last, where also a server finds them that searches the ends of a long body only.
    body["max_tokens"] = ask.output_tokens
    body["temperature"] = aim.temperature
    if ask.is_exact:
        body["ignore_eos"] = True
    if aim.wants_token_ids:
        body["return_token_ids"] = True
    if aim.streams:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body
