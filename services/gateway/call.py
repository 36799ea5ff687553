"""One attempt's request as an endpoint gets it: what the gateway decided, in headers, or in a foreign engine's body.

What must not live here: choosing the endpoint, connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.core import wire
from cluster.core.request import InferenceRequest, Route
from cluster.core.routing import Choice
from cluster.core.tenant import Priority
from services.gateway.catalog import Resolved, StaticEndpoint
from services.gateway.upstream import UpstreamCall

FORWARDED_HEADERS = ("accept", "traceparent", "tracestate")
"""The only headers of a client that an engine sees: all others could steer Serve, or carry secrets."""
UNPREFIXED_ROUTES = frozenset({Route.TOKENIZE, Route.DETOKENIZE})
"""vLLM serves these beside /v1, not below it."""
PATHS = {route: f"{'' if route in UNPREFIXED_ROUTES else '/v1'}/{route.value}" for route in Route}
USAGE_ROUTES = frozenset({Route.CHAT, Route.COMPLETIONS})
"""Their streams carry usage only when asked."""
_ASK_USAGE = b',"stream_options":{"include_usage":true}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every attempt of one request."""

    request: InferenceRequest
    client_headers: Mapping[str, str]
    resolved: Resolved
    priority: Priority
    cache_salt: str | None
    credential: str | None
    """What this cluster's replicas want to see."""


def call_of(terms: Terms, choice: Choice, static: StaticEndpoint | None, *, left_s: float | None) -> UpstreamCall:
    """The call for one choice.

    Args:
        terms: what holds for every attempt.
        choice: where it goes, and the output granted there.
        static: the foreign engine it goes to; None for a replica.
        left_s: seconds until the request's deadline.
    """
    request = terms.request
    client = terms.client_headers
    headers = {name: client[name] for name in FORWARDED_HEADERS if name in client}
    headers[wire.HEADER_REQUEST_ID] = request.request_id
    output_tokens = choice.output_tokens if request.route.generates else None
    body = request.body
    if static is None:
        _tell_replica(headers, terms, output_tokens, left_s)
    else:
        if static.api_key is not None:
            headers["authorization"] = f"Bearer {static.api_key}"
        body = _foreign_body(terms, static, output_tokens)
    return UpstreamCall(
        url=choice.endpoint.url, path=PATHS[request.route], headers=headers, body=body, is_static=static is not None
    )


def _tell_replica(headers: dict[str, str], terms: Terms, output_tokens: int | None, left_s: float | None) -> None:
    headers[wire.HEADER_WANTS] = wire.WANTS_OUTCOME
    headers[wire.HEADER_MODEL] = terms.resolved.engine_name
    if terms.credential is not None:
        headers[wire.HEADER_CREDENTIAL] = terms.credential
    if output_tokens is not None:
        headers[wire.HEADER_OUTPUT_TOKENS] = str(output_tokens)
        headers[wire.HEADER_PRIORITY] = str(terms.priority.value)
    if terms.cache_salt is not None:
        headers[wire.HEADER_CACHE_SALT] = terms.cache_salt
    if left_s is not None:
        headers[wire.HEADER_DEADLINE] = f"{left_s:.3f}"


def _foreign_body(terms: Terms, static: StaticEndpoint, output_tokens: int | None) -> bytes:
    """The body for an engine that knows none of our headers; the client's own bytes where nothing has to change."""
    request, model = terms.request, static.model or terms.resolved.engine_name
    sampling = terms.resolved.model.sampling
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
