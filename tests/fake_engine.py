"""An OpenAI-shaped engine over real sockets that misbehaves on demand.

It stands where a replica would: it counts prompt tokens (one a word), refuses what its context does not hold, streams
one token at a time, tells the outcome where the gateway wants it, and notices when its client leaves. What must not
live here: anything of the gateway, the answers' forms (fake_answers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from cluster.core import wire
from cluster.core.outcome import encode_outcome
from cluster.core.resume import FIELD, decode_delivered
from tests.fake_answers import (
    Usage,
    closing,
    count_words,
    ids_comment,
    opening,
    outcome_comment,
    token,
    whole,
)

FOREVER_S = 3600.0
TOKENS_BEFORE_FAULT = 2
"""A stream that breaks has sent this many events before."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset instead of an end."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """One request as the engine got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class FakeEngine:
    """What to do with the next requests, and what was seen of the past ones."""

    name: str = "engine"
    context_tokens: int | None = None
    """Refuse prompt plus output over this, as a replica does; None takes everything."""
    places: int | None = None
    """Refuse what comes while it has so many, as a replica does; None: it is never full."""
    in_flight: int = 0
    status: int = 200
    """Answer with this status instead."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    reset: str = ""
    """"before-head", "after-head" (nothing of the body) or "mid-stream" (between events, or inside a whole answer)."""
    reset_by: str = "reset"
    """How the connection goes then: "reset", or "close", an orderly end in the wrong place."""
    hang: str = ""
    """"before-head", "after-head", "mid-stream" (half an event, or half an answer) or "half-chunk" (half of HTTP's)."""
    resumes: bool = True
    """Whether it says that it goes on with a cut stream; a replica of before that began anew."""
    tokens: int = 5
    room_tokens: int | None = None
    """Output after which its context is full."""
    cached_tokens: int = 0
    token_delay_s: float = 0.0
    think_s: float = 0.0
    thinks_after_head: bool = False
    """A stream's head goes out before the thinking, as vLLM's does."""
    gate: asyncio.Event | None = None
    """A stream waits for it where one that breaks would break, a whole answer before its first byte."""
    script: deque[dict[str, Any]] = field(default_factory=deque)
    """Fields that differ for the next requests, one entry each; engines that share a deque take turns."""
    seen: list[Seen] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    aborted_s: list[float] = field(default_factory=list)
    """When clients left, on time.monotonic()."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    probed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    stop: Callable[[], Awaitable[None]] | None = None
    """Takes the running engine away."""
    kill: Callable[[], Awaitable[None]] | None = None
    """The same as a killed process: nobody listens, and every connection is reset."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(Seen(path=request.path, headers=dict(request.headers), body=body))
        acting = replace(self, **self.script.popleft()) if self.script else self
        self.started.set()
        if self.places is not None and self.in_flight >= self.places:
            refusal = {wire.HEADER_REFUSAL: wire.REFUSAL_OVERLOAD, "retry-after": "1"}
            return web.json_response({"error": {"message": "full"}}, status=429, headers=refusal)
        self.in_flight += 1
        try:
            return await acting._answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted_s.append(time.monotonic())
            self.aborted.set()
            raise
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if self.reset == "before-head":
            return self._break(request, web.Response())
        if self.hang == "before-head":
            await asyncio.sleep(FOREVER_S)
        if self.status != 200:
            return web.json_response(
                {"error": {"message": f"status {self.status}"}}, status=self.status, headers=self.answer_headers
            )
        prompt_tokens = count_words(body)
        if self.context_tokens is not None and prompt_tokens + _output_tokens(request, body) > self.context_tokens:
            return web.json_response(
                {"error": {"message": "too long for this replica"}},
                status=400,
                headers={
                    wire.HEADER_REFUSAL: wire.REFUSAL_CONTEXT,
                    wire.HEADER_PROMPT_TOKENS: str(prompt_tokens),
                },
            )
        usage = Usage(prompt=prompt_tokens, output=self.tokens, cached=self.cached_tokens)
        if body.get("stream"):
            return await self._stream(request, body, usage)
        await asyncio.sleep(self.think_s)
        if self.gate is not None:
            await self.gate.wait()
        return await self._whole(request, body, usage)

    async def _whole(self, request: web.Request, body: dict[str, Any], usage: Usage) -> web.StreamResponse:
        answer = whole(request.path, body["model"], f"hi from {self.name}", usage)
        headers = dict(self.answer_headers)
        if wire.WANTS_OUTCOME in _wants(request):
            headers[wire.HEADER_OUTCOME] = encode_outcome(usage.outcome())
        if not self.reset and not self.hang:
            return web.json_response(answer, headers=headers)
        payload = json.dumps(answer).encode()
        response = web.StreamResponse(headers={**headers, "content-type": "application/json"})
        response.content_length = len(payload)
        await response.prepare(request)
        if "after-head" not in {self.reset, self.hang}:
            await response.write(payload[: len(payload) // 2])
            await asyncio.sleep(0.05)
        return await self._fail(request, response)

    async def _stream(self, request: web.Request, body: dict[str, Any], usage: Usage) -> web.StreamResponse:
        if not self.thinks_after_head:
            await asyncio.sleep(self.think_s)
        headers = {"content-type": "text/event-stream", "x-secret": "1"}
        if request.headers.get(wire.HEADER_RESUME) == "1" and self.resumes:
            headers[wire.HEADER_RESUMED] = "append"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if "after-head" in {self.reset, self.hang}:
            return await self._fail(request, response)
        if self.thinks_after_head:
            await asyncio.sleep(self.think_s)
        wants = _wants(request)
        begin, opened = _delivered(request, body)
        await response.write(b"" if opened else opening(request.path, body["model"]))
        tokens = self.tokens if self.room_tokens is None else min(self.tokens, self.room_tokens)
        for index in range(begin, tokens):
            if index + 1 == tokens < self.tokens and wire.HEADER_GROWS in request.headers:
                await response.write(wire.COMMENT_FULL + b"\n\n")
            # As a replica does: the ids go out in one write with the event made of them.
            ids = ids_comment(index) if wire.WANTS_IDS in wants else b""
            await response.write(ids + token(request.path, index))
            if index + 1 == begin + TOKENS_BEFORE_FAULT and (self.reset or self.hang):
                return await self._fail(request, response)
            if index + 1 == begin + TOKENS_BEFORE_FAULT and self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(self.token_delay_s)
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        last = closing(request.path, body["model"], usage, with_usage=with_usage)
        await response.write(last + (outcome_comment(usage) if wire.WANTS_OUTCOME in wants else b""))
        return response

    async def _fail(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if self.reset:
            # What a reset overtakes is lost: the other end reads what was sent before.
            await asyncio.sleep(0.05)
            return self._break(request, response)
        half = b'data: {"id": "x", "choi'
        if self.hang == "mid-stream" and response.content_length is None:
            await response.write(half)
        elif self.hang == "half-chunk" and response.content_length is None:
            assert request.transport is not None
            request.transport.write(b"80\r\n" + half)
        await asyncio.sleep(FOREVER_S)
        return response

    def _break(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        assert request.transport is not None
        if self.reset_by == "reset":
            _reset(request.transport)
        else:
            request.transport.close()
        return response

    async def models(self, _request: web.Request) -> web.Response:
        self.probed.set()
        return web.json_response({"object": "list", "data": []})

    async def health(self, _request: web.Request) -> web.Response:
        self.probed.set()
        if self.hang:
            await asyncio.sleep(FOREVER_S)
        return web.Response()


def _wants(request: web.Request) -> set[str]:
    return {want.strip() for want in request.headers.get(wire.HEADER_WANTS, "").split(",")}


def _delivered(request: web.Request, body: dict[str, Any]) -> tuple[int, bool]:
    """Tokens that the client of a cut stream has, and whether it has what comes before them."""
    if request.headers.get(wire.HEADER_RESUME) != "1":
        return 0, False
    delivered = decode_delivered(body[FIELD])
    return delivered.tokens(0), delivered.events > 0


def _output_tokens(request: web.Request, body: dict[str, Any]) -> int:
    if wire.HEADER_GROWS in request.headers:
        return int(request.headers[wire.HEADER_OUTPUT_TOKENS])
    named = body.get("max_tokens") or body.get("max_completion_tokens") or 0
    return named or int(request.headers.get(wire.HEADER_OUTPUT_TOKENS, "0"))


def _reset(transport: asyncio.BaseTransport) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    assert isinstance(transport, asyncio.Transport)
    transport.abort()


@asynccontextmanager
async def serve(engine: FakeEngine, port: int = 0) -> AsyncIterator[FakeEngine]:
    """Run `engine` on a loopback port."""
    app = web.Application(client_max_size=2**30)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/health", engine.health)
    app.router.add_post("/{path:.*}", engine.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()

    async def kill() -> None:
        await site.stop()
        assert runner.server is not None
        for connection in runner.server.connections:
            if connection.transport is not None:
                _reset(connection.transport)

    engine.port = runner.addresses[0][1]
    engine.stop = runner.cleanup
    engine.kill = kill
    try:
        yield engine
    finally:
        await runner.cleanup()
