"""The thin ASGI layer between a replica's port and vLLM's own application.

It takes requests of its gateways only, refuses what this replica should not take (unknown routes, anything while
draining or stalled, an output that does not fit after tokenizing), strips what clients must not steer, applies what
the gateway decided, and breaks answers off when the engine is dead or the deadline has passed: a broken stream must
never look complete. What must not live here: vLLM, Ray.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any

from cluster.core import wire
from cluster.core.request import Route
from cluster.core.resume import FIELD, Delivered, decode_delivered
from cluster.engine.asgi import App, Receive, Scope, Send, answer_error, read_body, refuse, replay
from cluster.engine.budget import Budget
from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.decision import Decision, engine_headers, read_decision
from cluster.engine.gate import Gate
from cluster.engine.guard import Guard
from cluster.engine.resume.draws import Draws
from cluster.engine.side_channel import SideChannel
from cluster.engine.tally import Tally

POST_ROUTES: dict[str, Route] = {f"/v1/{route.value}": route for route in Route} | {
    "/tokenize": Route.TOKENIZE,
    "/detokenize": Route.DETOKENIZE,
    "/rerank": Route.RERANK,
}
HEALTH_PATH = "/health"
GET_PATHS = frozenset({HEALTH_PATH, "/metrics", "/v1/models", "/version"})
"""Everything else of vLLM's application is administration and never passes."""


class EngineLayer:
    """The ASGI application a replica serves.

    Args:
        app: vLLM's.
        gate: whether work is taken.
        credential: the cluster's secret, which every caller must show; None takes requests from anybody.
    """

    def __init__(self, app: App, gate: Gate, *, credential: str | None = None) -> None:
        self._app = app
        self._gate = gate
        self._credential = credential.encode() if credential is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_health = scope["method"] == "GET" and path == HEALTH_PATH
        if not is_health and not self._is_known(scope):
            await refuse(send, 401, wire.REFUSAL_CREDENTIAL, "only a gateway of this cluster is served here")
            return
        if scope["method"] == "GET" and path in GET_PATHS:
            await self._app(scope, receive, send)
            return
        route = POST_ROUTES.get(path) if scope["method"] == "POST" else None
        if route is None:
            await answer_error(send, 404, f"no such route here: {scope['method']} {path}")
            return
        refusal = self._gate.refusal
        if refusal is not None:
            status = 429 if refusal == wire.REFUSAL_OVERLOAD else 503
            text = f"this replica takes no work now: {refusal}"
            await refuse(send, status, refusal, text, retry_after_s=self._gate.retry_after_s)
            return
        with self._gate.passage():
            await self._serve(route, scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        if self._credential is None:
            return True
        shown = [value for key, value in scope["headers"] if key.lower() == wire.HEADER_CREDENTIAL.encode()]
        return len(shown) == 1 and hmac.compare_digest(shown[0], self._credential)

    async def _serve(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        decision = read_decision(scope["headers"])
        deadline_s = None if decision.deadline_s is None else asyncio.get_running_loop().time() + decision.deadline_s
        raw = await read_body(receive)
        if raw is None:
            return
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            await answer_error(send, 400, "the body must be a JSON object")
            return
        try:
            delivered = decode_delivered(body.get(FIELD)) if decision.resumes else None
        except ValueError as error:
            await answer_error(send, 400, str(error))
            return
        if wire.rewrite_body(
            route,
            body,
            model=decision.model,
            output_tokens=decision.output_tokens,
            priority=decision.priority,
            cache_salt=decision.cache_salt,
        ):
            raw = wire.encode_body(body)
        scope = dict(scope)
        scope["headers"] = engine_headers(
            scope["headers"],
            body_bytes=len(raw),
            priority=decision.priority if route.generates and not wire.has_priority_field(route) else None,
        )
        scope["state"] = dict(scope.get("state") or {})  # its own: vLLM leaves its count of the tokens there
        call = _call(route, body, decision, delivered)
        CURRENT_CALL.set(call)
        wants_outcome = wire.WANTS_OUTCOME in decision.wants
        channel = SideChannel(send, call=call, state=scope["state"], wants_outcome=wants_outcome)
        guard = Guard(channel, self._gate, call.budget)
        await self._run(scope, replay(raw, receive), guard, call, deadline_s)

    async def _run(self, scope: Scope, receive: Receive, guard: Guard, call: Call, deadline_s: float | None) -> None:
        """See the answer of vLLM to its end, or to that of the engine or of the time there is for it."""
        left_s = None if deadline_s is None else deadline_s - asyncio.get_running_loop().time()
        if left_s is not None and left_s <= 0:
            await guard.expire()
            return
        task = asyncio.create_task(self._ask(scope, receive, guard))
        broken = asyncio.create_task(self._gate.broken())
        try:
            await asyncio.wait({task, broken}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not guard.cut:
                await task
                return
            task.cancel()
            call.end()
            if guard.cut or self._gate.broken_reason is not None:
                await guard.give_up()
            else:
                await guard.expire()
        finally:
            broken.cancel()
            task.cancel()
            call.end()

    async def _ask(self, scope: Scope, receive: Receive, guard: Guard) -> None:
        try:
            await self._app(scope, receive, guard)
        except Exception:
            # A refusal travels as an exception through vLLM's handlers, which may or may not have answered it.
            if guard.can_refuse:
                await guard.refuse()
            elif not guard.cut:
                raise


def _call(route: Route, body: dict[str, Any], decision: Decision, delivered: Delivered | None) -> Call:
    is_beam_search = body.get("use_beam_search") is True
    output_tokens = wire.requested_output_tokens(route, body) if route.generates else None
    grows_tokens = decision.grows_tokens if wire.WANTS_IDS in decision.wants else None
    budget = None
    if output_tokens is not None:
        if grows_tokens is not None and decision.output_tokens is not None:
            output_tokens = min(output_tokens, decision.output_tokens)
        budget = Budget(output_tokens=output_tokens, is_beam_search=is_beam_search)
    keeps_ids = (wire.WANTS_IDS in decision.wants or delivered is not None) and body.get("stream") is True
    tally = Tally(keeps_ids=keeps_ids, is_beam_search=is_beam_search)
    draws = Draws(decision.draws) if decision.draws is not None else None
    return Call(budget=budget, tally=tally, delivered=delivered, draws=draws, grows_tokens=grows_tokens)
