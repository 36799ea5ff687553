"""An OpenAI-shaped engine over real sockets that misbehaves on demand.

It stands where a replica would: it counts prompt tokens (one a word), refuses what its context does not hold, streams
one token at a time, and notices when its client leaves. What must not live here: anything of the gateway.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from cluster.core import wire


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
    status: int = 200
    """Answer with this status instead."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    reset: str = ""
    """"before-head", "after-head" (nothing of the body) or "mid-stream"."""
    hang: str = ""
    """"before-head", "after-head" or "mid-stream" (half an event)."""
    tokens: int = 5
    token_delay_s: float = 0.0
    think_s: float = 0.0
    seen: list[Seen] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    stop: Callable[[], Awaitable[None]] | None = None
    """Takes the running engine away."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(Seen(path=request.path, headers=dict(request.headers), body=body))
        self.started.set()
        try:
            return await self._answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.aborted.set()
            raise

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if self.reset == "before-head":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.hang == "before-head":
            await asyncio.sleep(3600)
        if self.status != 200:
            return web.json_response(
                {"error": {"message": f"status {self.status}"}}, status=self.status, headers=self.answer_headers
            )
        prompt_tokens = count_words(body)
        output_tokens = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        output_tokens = output_tokens or int(request.headers.get(wire.HEADER_OUTPUT_TOKENS, "0"))
        if self.context_tokens is not None and prompt_tokens + output_tokens > self.context_tokens:
            return web.json_response(
                {"error": {"message": "too long for this replica"}},
                status=400,
                headers={
                    wire.HEADER_REFUSAL: wire.REFUSAL_CONTEXT,
                    wire.HEADER_PROMPT_TOKENS: str(prompt_tokens),
                },
            )
        await asyncio.sleep(self.think_s)
        if body.get("stream"):
            return await self._stream(request)
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"hi from {self.name}"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1, "total_tokens": prompt_tokens + 1},
        }
        return web.json_response(answer, headers=self.answer_headers)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-secret": "1"})
        await response.prepare(request)
        if self.reset == "after-head":
            assert request.transport is not None
            request.transport.abort()
            return response
        if self.hang == "after-head":
            await asyncio.sleep(3600)
        for index in range(self.tokens):
            await response.write(f"data: {json.dumps(chunk(f'token{index} '))}\n\n".encode())
            if self.reset == "mid-stream" and index == 1:
                await asyncio.sleep(0.05)
                assert request.transport is not None
                request.transport.abort()
                return response
            if self.hang == "mid-stream" and index == 1:
                await response.write(b'data: {"id": "x", "choi')
                await asyncio.sleep(3600)
            await asyncio.sleep(self.token_delay_s)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})


def chunk(text: str) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }


def count_words(body: dict[str, Any]) -> int:
    """One token a word, whatever the route."""
    texts = [str(message.get("content")) for message in body.get("messages", [])]
    for key in ("prompt", "input", "system", "instructions"):
        value = body.get(key)
        texts += [value] if isinstance(value, str) else []
    return sum(len(text.split()) for text in texts)


@asynccontextmanager
async def serve(engine: FakeEngine, port: int = 0) -> AsyncIterator[FakeEngine]:
    """Run `engine` on a loopback port."""
    app = web.Application(client_max_size=2**30)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_post("/{path:.*}", engine.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    engine.port = runner.addresses[0][1]
    engine.stop = runner.cleanup
    try:
        yield engine
    finally:
        await runner.cleanup()
