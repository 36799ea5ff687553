"""A refusal as REST answers it: OpenAI's form, Anthropic's on its own route; a whole answer, or a stream's last event.

What must not live here: which refusal (services/api/refusals.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cluster.core.request import Route
from cluster.core.wire import HEADER_REQUEST_ID
from services.api.refusals import NOT_FOUND, OVERLOADED, RATE_LIMIT, SERVER_ERROR, Refusal, broken
from services.gateway.upstream import UpstreamFailure
from services.http1.answer import HttpDate, head

_ANTHROPIC_TYPES = {RATE_LIMIT: "rate_limit_error", OVERLOADED: "overloaded_error", SERVER_ERROR: "api_error"}


def not_found(path: str) -> Refusal:
    """No such route; vLLM's administrative routes end here as well."""
    return Refusal(status=404, message=f"There is no route {path} here.", type=NOT_FOUND, code="route_not_found")


def wrong_method(method: str, path: str, allowed: tuple[str, ...]) -> Refusal:
    """The route exists, for other methods."""
    names = ", ".join(allowed)
    return Refusal(
        status=405,
        message=f"{method} is not allowed on {path}: use {names}.",
        code="method_not_allowed",
        headers=(("allow", names),),
    )


def body_of(refusal: Refusal, route: Route | None, request_id: str) -> bytes:
    """The JSON body, in the form that clients of `route` expect."""
    if route is Route.MESSAGES:
        kind = _ANTHROPIC_TYPES.get(refusal.type, refusal.type)
        data: dict[str, object] = {
            "type": "error",
            "error": {"type": kind, "message": refusal.message},
            "request_id": request_id,
        }
    else:
        data = {
            "error": {
                "message": refusal.message,
                "type": refusal.type,
                "param": refusal.param,
                "code": refusal.code,
                "request_id": request_id,
            }
        }
    return json.dumps(data).encode()


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Headers beyond content type, length and request id."""
    headers = dict(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(refusal.retry_after_s)
    return headers


def refusal_bytes(refusal: Refusal, route: Route | None, request_id: str, date: HttpDate, *, keep_alive: bool) -> bytes:
    """A whole answer that is an error."""
    body = body_of(refusal, route, request_id)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        (HEADER_REQUEST_ID, request_id),
        *headers_of(refusal).items(),
    ]
    if not keep_alive:
        headers.append(("connection", "close"))
    return head(refusal.status, headers, date.line()) + body


def stream_error(route: Route, failure: UpstreamFailure) -> bytes:
    """The server-sent event that tells a client its answer broke off and is not complete."""
    refusal = broken(failure)
    code, message = refusal.code, refusal.message
    if route is Route.MESSAGES:
        data: Mapping[str, object] = {"type": "error", "error": {"type": "api_error", "message": message}}
        return b"event: error\ndata: " + json.dumps(data).encode() + b"\n\n"
    if route is Route.RESPONSES:
        data = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return b"event: error\ndata: " + json.dumps(data).encode() + b"\n\n"
    data = {"error": {"message": message, "type": refusal.type, "param": None, "code": code}}
    return b"data: " + json.dumps(data).encode() + b"\n\n"
