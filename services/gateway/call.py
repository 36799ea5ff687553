"""One attempt's request as an endpoint gets it: what the gateway decided, in headers, or in a foreign engine's body.

What must not live here: choosing the endpoint, connections.
"""

from __future__ import annotations

from cluster.core import wire
from cluster.core.request import InferenceRequest, Route
from cluster.core.routing import Choice
from cluster.core.trace_context import TRACEPARENT, TRACESTATE
from services.gateway.ask import Ask
from services.gateway.catalog import Resolved, StaticEndpoint
from services.gateway.upstream import UpstreamCall

FORWARDED_HEADERS = ("accept",)
"""With the next, the only headers of a client that an engine sees: all others could steer Serve, or carry secrets."""
TRACE_HEADERS = (TRACEPARENT, TRACESTATE)
"""Passed on as they are where this gateway does not trace itself."""
UNPREFIXED_ROUTES = frozenset({Route.TOKENIZE, Route.DETOKENIZE})
"""vLLM serves these beside /v1, not below it."""
PATHS = {route: f"{'' if route in UNPREFIXED_ROUTES else '/v1'}/{route.value}" for route in Route}
GENERATING = frozenset(route for route in Route if route.generates)
USAGE_ROUTES = frozenset({Route.CHAT, Route.COMPLETIONS})
"""Their streams carry usage only when asked."""
WANTS_BOTH = f"{wire.WANTS_OUTCOME},{wire.WANTS_IDS}"
_ASK_USAGE = b',"stream_options":{"include_usage":true}}'


def call_of(
    ask: Ask,
    resolved: Resolved,
    choice: Choice,
    static: StaticEndpoint | None,
    *,
    credential: str | None,
    left_s: float,
    delivered: bytes | None = None,
    draws: str | None = None,
    grows_tokens: int | None = None,
    tells_ids: bool = False,
) -> UpstreamCall:
    """The call for one choice.

    Args:
        ask: the request and its sender.
        resolved: what the client's `model` stands for.
        choice: where it goes, and the output granted there.
        static: the foreign engine it goes to; None for a replica.
        credential: what this cluster's replicas want to see.
        left_s: seconds until the request's deadline.
        delivered: what the client of a cut stream has, as a member of the body; None: nothing was cut.
        draws: hexadecimal digits that ids of this request follow from; None: replicas draw them.
        grows_tokens: the output it may have in all, where that is more than what is granted.
        tells_ids: whether a replica is to tell the tokens that it generates.
    """
    request = ask.request
    route = request.route
    output_tokens = choice.output_tokens if route in GENERATING else None
    lines = f"{wire.HEADER_REQUEST_ID}: {request.request_id}\r\n"
    recording = ask.recording
    if recording is not None:
        lines += recording.header_lines()
    for name in FORWARDED_HEADERS if recording is not None else FORWARDED_HEADERS + TRACE_HEADERS:
        # A line's end in a value would be the next line; neither API lets one through, and this is the last to look.
        if name in ask.headers and ask.headers[name].isprintable():
            lines += f"{name}: {ask.headers[name]}\r\n"
    body = request.body
    if static is None:
        wants = WANTS_BOTH if tells_ids else wire.WANTS_OUTCOME
        lines += f"{wire.HEADER_WANTS}: {wants}\r\n" + _decided(ask, resolved, output_tokens, credential, left_s)
        if grows_tokens is not None:
            lines += f"{wire.HEADER_GROWS}: {grows_tokens}\r\n"
        if draws is not None:
            lines += f"{wire.HEADER_DRAWS}: {draws}\r\n"
        if delivered is not None:
            lines += f"{wire.HEADER_RESUME}: 1\r\n"
            # Without parsing it again: a JSON object's last byte is its brace, and `model` is in it already. Of two
            # members with one name the last counts.
            body = b"%b,%b}" % (body.rstrip()[:-1], delivered)
    else:
        if static.api_key is not None:
            lines += f"authorization: Bearer {static.api_key}\r\n"
        body = _foreign_body(request, resolved, static, output_tokens)
    return UpstreamCall(choice.endpoint.url, PATHS[route], lines, body, static is not None)


def _decided(ask: Ask, resolved: Resolved, output_tokens: int | None, credential: str | None, left_s: float) -> str:
    """What a replica is told."""
    lines = f"{wire.HEADER_MODEL}: {resolved.engine_name}\r\n{wire.HEADER_DEADLINE}: {left_s:.3f}\r\n"
    if credential is not None:
        lines += f"{wire.HEADER_CREDENTIAL}: {credential}\r\n"
    if output_tokens is not None:
        lines += f"{wire.HEADER_OUTPUT_TOKENS}: {output_tokens}\r\n{wire.HEADER_PRIORITY}: {ask.priority:d}\r\n"
    if ask.cache_salt is not None:
        lines += f"{wire.HEADER_CACHE_SALT}: {ask.cache_salt}\r\n"
    return lines


def _foreign_body(
    request: InferenceRequest, resolved: Resolved, static: StaticEndpoint, output_tokens: int | None
) -> bytes:
    """The body for an engine that knows none of our headers; the client's own bytes where nothing has to change."""
    model = static.model or resolved.engine_name
    sampling = resolved.model.sampling
    body = request.body
    if (
        model != request.model
        or not wire.INTERNAL_BODY_FIELDS.isdisjoint(request.given)
        or (output_tokens is not None and request.requested_output_tokens is None)
        or not sampling.keys() <= request.given
    ):
        body = wire.apply_decision(request.route, body, model=model, output_tokens=output_tokens, sampling=sampling)
    if request.stream and request.route in USAGE_ROUTES and "stream_options" not in request.given:
        # Without parsing it again: a JSON object's last byte is its brace, and `model` is in it already.
        body = body.rstrip()[:-1] + _ASK_USAGE
    return body
