"""The door of the client listener: hot routes to their handlers, every other path to the ordinary application.

vLLM has administrative routes (LoRA loading, sleep, cache reset, weights); none is named here, so none passes. What
must not live here: what a route does.
"""

from __future__ import annotations

from cluster.core.request import Route
from services.api.decode import request_id_of
from services.api.refusals import Refusal
from services.http1.answer import HttpDate
from services.http1.asgi import AsgiBridge
from services.http1.exchange import Exchange, Fault
from services.http1.request import HttpRequest
from services.rest.inference import InferenceHandler
from services.rest.refusal import refusal_bytes

ALIASES: dict[Route, tuple[str, ...]] = {
    Route.RERANK: ("/rerank",),
    Route.TOKENIZE: ("/tokenize",),
    Route.DETOKENIZE: ("/detokenize",),
}
"""Paths beside /v1 under which vLLM and its clients know a route."""
PATHS: dict[str, Route] = {path: route for route in Route for path in (f"/v1/{route.value}", *ALIASES.get(route, ()))}


class Front:
    """A `services.http1` handler for the whole REST surface."""

    def __init__(self, inference: InferenceHandler, rest: AsgiBridge, date: HttpDate) -> None:
        self._inference = inference
        self._rest = rest
        self._date = date

    def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer one request."""
        route = PATHS.get(request.path)
        if route is None:
            self._rest(request, exchange)
        else:
            self._inference(route, request, exchange)

    def fault(self, fault: Fault, request: HttpRequest | None) -> bytes:
        """The answer to what is not HTTP, or over its limits."""
        headers = {} if request is None else request.headers
        route = None if request is None else PATHS.get(request.path)
        return refusal_bytes(
            Refusal(status=fault.status, message=fault.message, code=fault.code),
            route,
            request_id_of(headers),
            self._date,
            keep_alive=False,
        )
