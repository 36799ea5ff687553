"""The thin ASGI layer between a replica's port and vLLM's own application.

It refuses what this replica should not take (unknown routes, anything while draining or stalled, an output that does
not fit after tokenizing), strips what clients must not steer, applies what the gateway decided, and breaks answers
off when the engine is dead: a broken stream must never look complete. What must not live here: vLLM, Ray.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from cluster.core import wire
from cluster.core.errors import EngineStalledError
from cluster.core.request import Route

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 2**31
"""The gateway holds the configured limit; this one only keeps a stray client from filling the memory."""
RETRY_AFTER_S = 1
TOKEN_DIGITS_MAX = 9
"""A token count of more digits is none; Python refuses to read thousands of them."""

POST_ROUTES: dict[str, Route] = {f"/v1/{route.value}": route for route in Route} | {
    "/tokenize": Route.TOKENIZE,
    "/detokenize": Route.DETOKENIZE,
    "/rerank": Route.RERANK,
}
GET_PATHS = frozenset({"/health", "/metrics", "/v1/models", "/version"})
"""Everything else of vLLM's application is administration and never passes."""


class ContextRefusedError(Exception):
    """Prompt and output do not fit this replica's context; raised where the engine would have clamped the output."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """One request's output budget, and what became of it once the prompt was tokenized."""

    output_tokens: int
    is_beam_search: bool = False
    """vLLM's beam search calls the engine once a step, its prompt growing: only the first call tells the prompt."""
    checked: bool = False
    refused_prompt_tokens: int | None = None
    context_tokens: int = 0

    def check(self, prompt_tokens: int, context_tokens: int) -> None:
        """Hold the budget against the context limit.

        Raises:
            ContextRefusedError: prompt plus output are over it; vLLM would silently shorten the output.
        """
        if self.is_beam_search and self.checked:
            return
        self.context_tokens = context_tokens
        if prompt_tokens + self.output_tokens > context_tokens:
            self.refused_prompt_tokens = prompt_tokens
            raise ContextRefusedError
        self.checked = True


CURRENT_BUDGET: ContextVar[Budget | None] = ContextVar("CURRENT_BUDGET", default=None)


@dataclass(slots=True, kw_only=True)
class Gate:
    """Whether the replica takes work, and what ends the work it has."""

    engine_is_dead: Callable[[], bool]
    """What the engine's own client knows; it may know before the next look at the vitals."""
    max_requests: int
    """Running and waiting together; the next one is refused."""
    draining: bool = False
    in_flight: int = 0
    _reason: str | None = None
    _broken: asyncio.Event = field(default_factory=asyncio.Event)

    def break_off(self, reason: str) -> None:
        """End everything in flight, for good."""
        self._reason = reason
        self._broken.set()

    @property
    def broken_reason(self) -> str | None:
        """Why nothing here can finish any more; None while the engine lives."""
        if self._reason is None and self.engine_is_dead():
            return "the engine core died"
        return self._reason

    async def broken(self) -> None:
        """Return when the replica has been given up."""
        await self._broken.wait()

    @property
    def refusal(self) -> str | None:
        """Why new work is refused now; None when it is welcome."""
        if self.broken_reason is not None:
            return wire.REFUSAL_STALLED
        if self.draining:
            return wire.REFUSAL_DRAINING
        return wire.REFUSAL_OVERLOAD if self.in_flight >= self.max_requests else None


class EngineLayer:
    """The ASGI application a replica serves."""

    def __init__(self, app: App, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] == "GET" and path in GET_PATHS:
            await self._app(scope, receive, send)
            return
        route = POST_ROUTES.get(path) if scope["method"] == "POST" else None
        if route is None:
            await _error(send, 404, f"no such route here: {scope['method']} {path}")
            return
        refusal = self._gate.refusal
        if refusal is not None:
            status = 429 if refusal == wire.REFUSAL_OVERLOAD else 503
            await _refuse(send, status, refusal, f"this replica takes no work now: {refusal}")
            return
        self._gate.in_flight += 1
        try:
            await self._serve(route, scope, receive, send)
        finally:
            self._gate.in_flight -= 1

    async def _serve(self, route: Route, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        raw = await _read_body(receive)
        if raw is None:
            return
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            await _error(send, 400, "the body must be a JSON object")
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        granted = _positive(headers.get(wire.HEADER_OUTPUT_TOKENS))
        if wire.rewrite_body(route, body, model=headers.get(wire.HEADER_MODEL), output_tokens=granted):
            raw = wire.encode_body(body)
        scope = dict(scope)
        scope["headers"] = _clean_headers(scope["headers"], len(raw))
        output_tokens = wire.requested_output_tokens(route, body) if route.generates else None
        budget = None
        if output_tokens is not None:
            budget = Budget(output_tokens=output_tokens, is_beam_search=body.get("use_beam_search") is True)
        CURRENT_BUDGET.set(budget)
        guard = _Guard(send, self._gate, budget)
        task = asyncio.create_task(self._call(scope, _replay(raw, receive), guard))
        broken = asyncio.create_task(self._gate.broken())
        try:
            await asyncio.wait({task, broken}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not guard.cut:
                await task
                return
            await guard.give_up()
        finally:
            broken.cancel()
            task.cancel()

    async def _call(self, scope: MutableMapping[str, Any], receive: Receive, guard: _Guard) -> None:
        try:
            await self._app(scope, receive, guard)
        except Exception:
            # A refusal travels as an exception through vLLM's handlers, which may or may not have answered it.
            if guard.can_refuse:
                await guard.refuse()
            elif not guard.cut:
                raise


class _Guard:
    """The `send` that vLLM gets: holds the head back until the budget is checked, cuts when the engine dies."""

    def __init__(self, send: Send, gate: Gate, budget: Budget | None) -> None:
        self._send = send
        self._gate = gate
        self._budget = budget
        self._held: list[Message] = []
        self._started = False
        self._answered = False
        self.cut = False

    @property
    def can_refuse(self) -> bool:
        """Whether the engine's context is too small for this request, and nothing of an answer is out yet.

        An API that generates several times in one request can be refused after its head: that breaks the answer.
        """
        return self._budget is not None and self._budget.refused_prompt_tokens is not None and not self._started

    async def __call__(self, message: Message) -> None:
        reason = self._gate.broken_reason
        if reason is not None and not self._answered:
            self.cut = True
            raise EngineStalledError(reason)
        if self.can_refuse:
            await self.refuse()
            return
        if self._answered:
            return
        self._held.append(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._budget is None or self._budget.checked or is_last:
            await self._flush()

    async def _flush(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self._started = True
            await self._send(message)

    async def refuse(self) -> None:
        """Answer that this context is too small, once."""
        if self._answered or self._budget is None:
            return
        self._answered = True
        self._held.clear()
        prompt_tokens = self._budget.refused_prompt_tokens
        text = (
            f"prompt {prompt_tokens} + output {self._budget.output_tokens} tokens are over this replica's limit of "
            f"{self._budget.context_tokens}"
        )
        extra = [(wire.HEADER_PROMPT_TOKENS.encode(), str(prompt_tokens).encode())]
        await _refuse(self._send, 400, wire.REFUSAL_CONTEXT, text, extra)

    async def give_up(self) -> None:
        """End an answer whose engine is gone: 503 before the first byte, a broken connection after it.

        Raises:
            EngineStalledError: the head is out already, so the connection must not end cleanly.
        """
        reason = self._gate.broken_reason or "the engine is gone"
        self.cut = True
        if self._answered:
            return
        if self._started:
            raise EngineStalledError(reason)
        self._answered = True
        await _refuse(self._send, 503, wire.REFUSAL_STALLED, reason)


def _clean_headers(headers: list[tuple[bytes, bytes]], body_bytes: int) -> list[tuple[bytes, bytes]]:
    dropped = {name.encode() for name in wire.SERVE_CONTROL_HEADERS} | {b"content-length", b"transfer-encoding"}
    kept = [
        (key, value)
        for key, value in headers
        if key.lower() not in dropped and not key.lower().startswith(wire.INTERNAL_PREFIX.encode())
    ]
    return [*kept, (b"content-length", str(body_bytes).encode())]


def _positive(text: str | None) -> int | None:
    if text is None or len(text) > TOKEN_DIGITS_MAX or not text.isascii() or not text.isdigit():
        return None
    return int(text) or None


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None when the client left first."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        if len(parts) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(parts)


def _replay(raw: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then waits for the client to leave."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": raw, "more_body": False}
        return await receive()

    return replay


async def _refuse(
    send: Send, status: int, refusal: str, text: str, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [(wire.HEADER_REFUSAL.encode(), refusal.encode()), *(extra or [])]
    if refusal != wire.REFUSAL_CONTEXT:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await _error(send, status, text, headers)


async def _error(send: Send, status: int, text: str, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    kind = "invalid_request_error" if status < 500 else "server_error"  # noqa: PLR2004 - HTTP's server errors
    body = json.dumps({"error": {"message": text, "type": kind, "param": None, "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(extra or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
