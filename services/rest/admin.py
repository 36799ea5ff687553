"""The admin listener's routes: metrics, those of replicas too, a decision without sending it, health.

Clients cannot reach them. What must not live here: the routes of the client listener (front.py, app.py).
"""

from __future__ import annotations

import hmac

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route as Path

from cluster.core.lease import ReplicaId
from cluster.core.request import OverCap, Route
from cluster.core.routing import explain
from services.api.decode import decode, output_field_of, request_id_of
from services.api.gateway import Gateway
from services.api.refusals import Refusal, from_outcome, invalid, not_admin
from services.api.sender import ask_of, identify
from services.api.snapshot import snapshot_of
from services.gateway.admin_relay import METRICS_TYPE, PARENT_HEADER, SNAPSHOT_PATH
from services.gateway.exposition import merge
from services.gateway.outcome import UnknownModel
from services.gateway.scrapes import NotScraped, Scrapes
from services.http1.answer import HttpDate
from services.http1.asgi import AsgiBridge
from services.http1.exchange import Exchange, Fault
from services.http1.request import HttpRequest
from services.rest.listing import Listing
from services.rest.refusal import body_of, refusal_bytes

OPEN_PATHS = frozenset({"/health", "/ready"})
"""What an orchestrator asks without a key."""
METRICS_PATHS = frozenset({"/metrics", SNAPSHOT_PATH})
"""The same counts twice: for Prometheus, and for the parent of several workers."""


class AdminFront:
    """A `services.http1` handler for the admin listener: role admin, where there are keys."""

    def __init__(self, gateway: Gateway, date: HttpDate, scrapes: Scrapes, *, parent_token: str | None) -> None:
        """Prepare.

        Args:
            gateway: whose routes these are.
            date: the date header's.
            scrapes: metrics of replicas.
            parent_token: who shows it may have this worker's counts; None: nobody.
        """
        self._parent_token = parent_token
        self._gateway = gateway
        self._date = date
        self._bridge = AsgiBridge(_app(gateway, scrapes), date)

    def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer one request."""
        is_open = self._is_open(request.path) or self._is_parents(request)
        refusal = None if is_open else self._refusal(request)
        if refusal is None:
            self._bridge(request, exchange)
            return
        keep_alive = exchange.keep_alive and not exchange.is_draining
        request_id = request_id_of(request.headers)
        exchange.write(refusal_bytes(refusal, None, request_id, self._date, keep_alive=keep_alive))
        exchange.finish()

    def fault(self, fault: Fault, request: HttpRequest | None) -> bytes:
        """The answer to what is not HTTP, or over its limits."""
        headers = {} if request is None else request.headers
        refusal = Refusal(status=fault.status, message=fault.message, code=fault.code)
        return refusal_bytes(refusal, None, request_id_of(headers), self._date, keep_alive=False)

    def _is_open(self, path: str) -> bool:
        admin = self._gateway.current.catalog.config.gateway.admin
        return path in OPEN_PATHS or (admin.metrics_without_key and path in METRICS_PATHS)

    def _is_parents(self, request: HttpRequest) -> bool:
        shown = request.headers.get(PARENT_HEADER)
        if shown is None or self._parent_token is None or request.path != SNAPSHOT_PATH:
            return False
        return hmac.compare_digest(shown.encode("latin-1"), self._parent_token.encode())

    def _refusal(self, request: HttpRequest) -> Refusal | None:
        identity = identify(self._gateway, request.headers)
        if isinstance(identity, Refusal):
            return identity
        if self._gateway.access.authenticator.may_administer(identity):
            return None
        return not_admin()


def _app(gateway: Gateway, scrapes: Scrapes) -> Starlette:
    listing = Listing(gateway, {})
    admin = _Admin(gateway, scrapes)
    return Starlette(
        routes=[
            Path("/health", listing.health, methods=["GET"]),
            Path("/ready", listing.ready, methods=["GET"]),
            Path("/metrics", admin.metrics, methods=["GET"]),
            Path("/sd/replicas", admin.replicas, methods=["GET"]),
            Path("/replicas/{replica}/metrics", admin.replica_metrics, methods=["GET"]),
            Path(SNAPSHOT_PATH, admin.snapshot, methods=["GET"]),
            Path("/debug/route", admin.debug_route, methods=["POST"]),
        ]
    )


class _Admin:
    def __init__(self, gateway: Gateway, scrapes: Scrapes) -> None:
        self._gateway = gateway
        self._scrapes = scrapes

    async def metrics(self, _request: Request) -> Response:
        """GET /metrics: Prometheus text."""
        return Response(merge([snapshot_of(self._gateway)]), media_type=METRICS_TYPE)

    async def replicas(self, request: Request) -> Response:
        """GET /sd/replicas: Prometheus's HTTP service discovery; all targets are this gateway, by the asker's name."""
        return JSONResponse(self._scrapes.targets(request.headers.get("host", "")))

    async def replica_metrics(self, request: Request) -> Response:
        """GET /replicas/{id}/metrics: the replica's own page, byte for byte."""
        page = await self._scrapes.scrape(ReplicaId(request.path_params["replica"]))
        if isinstance(page, NotScraped):
            return PlainTextResponse(f"{page.message}\n", status_code=page.status)
        return Response(page.body, headers={"content-type": page.content_type})

    async def snapshot(self, _request: Request) -> Response:
        """GET /snapshot: this worker's tallies, for the parent process to add up."""
        return Response(snapshot_of(self._gateway).encode(), media_type="application/json")

    async def debug_route(self, request: Request) -> Response:
        """POST /debug/route?route=chat/completions: the decision for this body and these headers, in full."""
        name = request.query_params.get("route", Route.CHAT.value)
        if name not in set(Route):
            return _refused(invalid(f"route must be one of {', '.join(Route)}.", param="route"), Route.CHAT)
        route = Route(name)
        decoded = decode(route, await request.body(), request_id_of(request.headers))
        if isinstance(decoded, Refusal):
            return _refused(decoded, route)
        identity = identify(self._gateway, request.headers)
        if isinstance(identity, Refusal):
            return _refused(identity, route)
        ask = ask_of(self._gateway, decoded, request.headers, identity, self._gateway.clock())
        if isinstance(ask, Refusal):
            return _refused(ask, route)
        found = await self._gateway.dispatcher.explain(ask)
        if isinstance(found, (UnknownModel, OverCap)):
            return _refused(from_outcome(found, route, output_field_of(route, decoded.body)), route)
        return JSONResponse(explain(found))


def _refused(refusal: Refusal, route: Route) -> Response:
    return Response(body_of(refusal, route, ""), status_code=refusal.status, media_type="application/json")
