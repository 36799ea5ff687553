"""The ASGI endpoint of every route that a replica answers: read, decode, dispatch, relay, account.

A client that leaves ends all of it at once, streaming or not: that is what aborts the engine. What must not live
here: the steps themselves, each has a module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.types import Receive, Scope, Send

from cluster.core import wire
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import InferenceRequest, RequestId, Route
from services.gateway.logs import ACCESS_LOGGER
from services.gateway.outcome import Served
from services.rest.body import ClientGoneError, read_body
from services.rest.decode import decode, output_field_of, request_id_of
from services.rest.errors import Refusal, from_outcome, full, internal, wrong_method
from services.rest.gateway import Gateway
from services.rest.relay import relay

logger = logging.getLogger(__name__)
access = logging.getLogger(ACCESS_LOGGER)


class Ending(StrEnum):
    """How a request ended; these are metric labels."""

    OK = "ok"
    REFUSED = "refused"
    """A 4xx of ours or of the engine."""
    UNAVAILABLE = "unavailable"
    """A 5xx, or 429: nobody could take it."""
    BROKEN = "broken"
    """The answer broke off under way."""
    CLIENT_GONE = "client_gone"


@dataclass(slots=True, kw_only=True)
class _Account:
    """What the access line and the metrics will say of one request."""

    request_id: RequestId
    route: Route
    started_s: float
    ending: Ending = Ending.CLIENT_GONE
    status: int = 0
    model: str = ""
    pool: PoolName | None = None
    replica: ReplicaId | None = None
    prompt_tokens: int | None = None
    attempts: int = 0
    sent_bytes: int = 0
    first_byte_s: float | None = None


class InferenceEndpoint:
    """Serves one route; an ASGI application."""

    def __init__(self, route: Route, gateway: Gateway) -> None:
        self._route = route
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        account = _Account(request_id=request_id_of(headers), route=self._route, started_s=time.monotonic())
        if scope["method"] != "POST":
            await _refuse(wrong_method(scope["method"], scope["path"], ("POST",)), account, send)
            self._log(account)
            return
        limits = self._gateway.current.catalog.config.gateway.limits
        if self._gateway.in_flight >= limits.concurrent_requests:
            await _refuse(full(limits.concurrent_requests), account, send)
            self._log(account)
            return
        self._gateway.in_flight += 1
        self._gateway.metrics.started()
        try:
            await self._serve(headers, account, receive, send)
        except Exception:
            logger.exception("request failed", extra={"request_id": account.request_id})
            # Once a status is out, the server closes the connection, which tells the client as much as we can.
            if account.status:
                account.ending = Ending.BROKEN
                raise
            await _refuse(internal(), account, send)
        finally:
            self._gateway.in_flight -= 1
            self._finish(account)

    async def _serve(self, headers: Mapping[str, str], account: _Account, receive: Receive, send: Send) -> None:
        limits = self._gateway.current.catalog.config.gateway.limits
        try:
            raw = await read_body(receive, headers, limits)
        except ClientGoneError:
            return
        if isinstance(raw, Refusal):
            await _refuse(raw, account, send)
            return
        account.started_s = time.monotonic()
        request = decode(self._route, raw, account.request_id)
        if isinstance(request, Refusal):
            await _refuse(request, account, send)
            return
        account.model = request.model
        work = asyncio.ensure_future(self._answer(request, headers, account, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            else:
                account.ending = Ending.CLIENT_GONE
        finally:
            gone.cancel()
            work.cancel()
            # The abort has happened when the work's own clean-up has, not when it was asked for.
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _answer(
        self, request: InferenceRequest, headers: Mapping[str, str], account: _Account, send: Send
    ) -> None:
        async with self._gateway.dispatcher.open(request, headers) as outcome:
            if not isinstance(outcome, Served):
                field = output_field_of(request.route, request.body)
                await _refuse(from_outcome(outcome, request.route, field), account, send)
                return
            account.first_byte_s = time.monotonic() - account.started_s
            account.status = outcome.answer.status
            account.pool = outcome.choice.endpoint.pool
            account.replica = outcome.choice.endpoint.replica_id
            account.prompt_tokens = outcome.prompt_tokens
            account.attempts = outcome.attempts
            limits = self._gateway.current.catalog.config.gateway.limits
            relayed = await relay(outcome, request, send, stall_s=limits.idle_s)
            account.sent_bytes = relayed.sent_bytes
            if relayed.broken is not None:
                account.ending = Ending.BROKEN
                self._gateway.metrics.broken(account.pool, relayed.broken.kind.value)
                self._gateway.directory.suspect(account.replica)
            elif relayed.stalled:
                account.ending = Ending.CLIENT_GONE
            else:
                account.ending = _ending(account.status)

    def _finish(self, account: _Account) -> None:
        metrics = self._gateway.metrics
        if account.pool is not None and account.first_byte_s is not None:
            metrics.answered(account.route, account.pool, account.prompt_tokens or 0, account.first_byte_s)
        metrics.ended(account.route, account.pool, account.ending.value, time.monotonic() - account.started_s)
        self._log(account)

    def _log(self, account: _Account) -> None:
        if not access.isEnabledFor(logging.INFO):
            return
        access.info(
            "request",
            extra={
                "request_id": account.request_id,
                "route": account.route.value,
                "status": account.status,
                "ending": account.ending.value,
                "model": account.model,
                "pool": account.pool or "-",
                "replica": account.replica or "-",
                "attempts": account.attempts,
                "prompt_tokens": "-" if account.prompt_tokens is None else account.prompt_tokens,
                "first_byte_ms": "-" if account.first_byte_s is None else round(account.first_byte_s * 1000, 1),
                "ms": round((time.monotonic() - account.started_s) * 1000, 1),
                "bytes": account.sent_bytes,
            },
        )


def _ending(status: int) -> Ending:
    if status < 400:  # noqa: PLR2004 - HTTP's client errors begin here
        return Ending.OK
    return Ending.UNAVAILABLE if status == 429 or status >= 500 else Ending.REFUSED  # noqa: PLR2004 - HTTP statuses


async def _disconnected(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(refusal: Refusal, account: _Account, send: Send) -> None:
    account.status = refusal.status
    account.ending = _ending(refusal.status)
    await send_refusal(refusal, account.route, account.request_id, send)


async def send_refusal(refusal: Refusal, route: Route | None, request_id: RequestId, send: Send) -> None:
    """Answer with an error."""
    body = refusal.body(route, request_id)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        wire.HEADER_REQUEST_ID: request_id,
        **refusal.all_headers(),
    }
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})
