"""What the gateway says of itself: models, health, readiness.

What must not live here: requests that a replica answers (inference.py).
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cluster.core.wire import HEADER_REQUEST_ID
from services.api.decode import request_id_of
from services.api.gateway import Gateway
from services.api.models import entries
from services.api.refusals import NOT_FOUND, Refusal
from services.rest.refusal import body_of


class Listing:
    """The GET routes."""

    def __init__(self, gateway: Gateway, openapi: dict[str, Any]) -> None:
        self._gateway = gateway
        self._openapi = openapi

    async def models(self, request: Request) -> Response:
        """GET /v1/models: every name a client may ask for, across pools."""
        return _json(request, {"object": "list", "data": entries(self._gateway)})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        name = request.path_params["name"]
        entry = next((entry for entry in entries(self._gateway) if entry["id"] == name), None)
        if entry is not None:
            return _json(request, entry)
        refusal = Refusal(
            status=404,
            message=f"The model {name[:128]!r} does not exist.",
            type=NOT_FOUND,
            param="model",
            code="model_not_found",
        )
        request_id = request_id_of(request.headers)
        return Response(
            body_of(refusal, None, request_id),
            status_code=refusal.status,
            media_type="application/json",
            headers={HEADER_REQUEST_ID: request_id},
        )

    async def health(self, request: Request) -> Response:
        """GET /health: this process answers."""
        return _json(request, {"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """GET /ready: 200 while at least one model has an endpoint that is neither draining nor failing.

        With `?replicas=0` the gateway alone is asked: 200 once it knows who is there, until it leaves.
        """
        gateway, directory = self._gateway, self._gateway.directory
        states = directory.states(gateway.current.catalog)
        is_alone = request.query_params.get("replicas") == "0"
        is_ready = gateway.takes_part(states) if is_alone else gateway.is_ready(states)
        unready = "no endpoint" if directory.is_informed else "state store not read yet"
        status = "ready" if is_ready else "draining" if gateway.is_draining else unready
        pools = {
            pool: {state.value: count for state, count in counts.items() if count} for pool, counts in states.items()
        }
        data = {"status": status, "pools": pools, "state_store_age_s": directory.age_s}
        return _json(request, data, status=200 if is_ready else 503)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return _json(request, self._openapi)


def _json(request: Request, data: object, *, status: int = 200) -> Response:
    return JSONResponse(data, status_code=status, headers={HEADER_REQUEST_ID: request_id_of(request.headers)})
