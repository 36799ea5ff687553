"""The routes whose speed does not matter, as one ASGI application; every other path is 404 in OpenAI's form.

What must not live here: what a route does, the routes that replicas answer (front.py).
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as Path

from cluster.core.request import Route
from cluster.core.wire import HEADER_REQUEST_ID
from services.api.decode import request_id_of
from services.api.gateway import Gateway
from services.api.refusals import Refusal, internal
from services.rest.listing import Listing
from services.rest.openapi import build_openapi
from services.rest.refusal import body_of, headers_of, not_found, wrong_method

__all__ = ["Gateway", "build_app"]

METHOD_NOT_ALLOWED = 405
NOT_FOUND = 404


def build_app(gateway: Gateway) -> Starlette:
    """The application around a gateway's parts."""
    listing = Listing(gateway, build_openapi())
    routes: list[BaseRoute] = [
        Path("/v1/models", listing.models, methods=["GET"]),
        Path("/v1/models/{name:path}", listing.model, methods=["GET"]),
        Path("/health", listing.health, methods=["GET"]),
        Path("/ready", listing.ready, methods=["GET"]),
        Path("/openapi.json", listing.openapi, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _fault})
    # A trailing slash is another path; a redirect would have clients send long bodies twice.
    app.router.redirect_slashes = False
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses."""
    assert isinstance(error, HTTPException)
    if error.status_code == METHOD_NOT_ALLOWED:
        allowed = tuple(name.strip() for name in (error.headers or {}).get("Allow", "").split(","))
        return _answer(request, wrong_method(request.method, request.url.path, allowed))
    if error.status_code == NOT_FOUND:
        return _answer(request, not_found(request.url.path[:128]))
    return _answer(request, Refusal(status=error.status_code, message=error.detail))


async def _fault(request: Request, _error: Exception) -> Response:
    """A fault in one of the GET routes; Starlette raises it on, so that it is logged."""
    return _answer(request, internal())


def _answer(request: Request, refusal: Refusal) -> Response:
    request_id = request_id_of(request.headers)
    route = Route.MESSAGES if request.url.path == "/v1/messages" else None
    return Response(
        body_of(refusal, route, request_id),
        status_code=refusal.status,
        media_type="application/json",
        headers={HEADER_REQUEST_ID: request_id, **headers_of(refusal)},
    )
