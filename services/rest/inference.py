"""Serves every route that a replica answers, over HTTP: what REST adds to the conduct that gRPC shares.

What must not live here: the request's way through the gateway (services/api/conduct.py), the answer's bytes
(relay.py).
"""

from __future__ import annotations

import asyncio
import logging

from cluster.core.request import Route
from services.api.account import Account, Answering, Api, Ending
from services.api.conduct import Conduct
from services.api.decode import decode, request_id_of
from services.api.gateway import Gateway
from services.api.refusals import Refusal, internal, invalid
from services.api.repeats import Told
from services.http1.answer import HttpDate
from services.http1.exchange import Exchange
from services.http1.request import HttpRequest
from services.rest.refusal import refusal_bytes, wrong_method
from services.rest.relay import Relay

logger = logging.getLogger(__name__)


class InferenceHandler:
    """Answers inference requests, a task for each."""

    def __init__(self, gateway: Gateway, conduct: Conduct, date: HttpDate) -> None:
        self._gateway = gateway
        self._conduct = conduct
        self._date = date
        self._loop = asyncio.get_running_loop()
        self._running: dict[Exchange, asyncio.Task[None]] = {}

    def __call__(self, route: Route, http: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer one request."""
        account = Account(request_id_of(http.headers), route, self._gateway.clock(), Api.REST)
        refusal = self._refusal(http, account, exchange.certificate)
        if refusal is not None:
            self._refuse(refusal, account, exchange)
            self._conduct.books.refused(account)
            return
        self._conduct.begin()
        task = self._loop.create_task(self._run(http, exchange, account))
        self._running[exchange] = task
        exchange.on_gone = task.cancel

    def _refusal(self, http: HttpRequest, account: Account, certificate: str | None) -> Refusal | None:
        """What can be said without reading the body."""
        if http.method != "POST":
            return wrong_method(http.method, http.path, ("POST",))
        refusal = self._conduct.admit(account, http.headers, certificate)
        encoding = http.headers.get("content-encoding")
        if refusal is not None or encoding is None or encoding.strip().lower() in {"", "identity"}:
            return refusal
        return invalid(
            f"The content encoding {encoding[:32]!r} is not taken: send the body as it is.",
            status=415,
            code="unsupported_encoding",
        )

    async def _run(self, http: HttpRequest, exchange: Exchange, account: Account) -> None:
        try:
            await self._serve(http, exchange, account)
        except asyncio.CancelledError:
            account.ending = Ending.CLIENT_GONE
        except Exception:
            logger.exception("request failed", extra=account.log_fields)
            if account.status:
                account.ending = Ending.BROKEN
                exchange.cut()
            else:
                self._refuse(internal(), account, exchange)
        finally:
            del self._running[exchange]
            self._conduct.end(account)

    async def _serve(self, http: HttpRequest, exchange: Exchange, account: Account) -> None:
        raw, http.body = http.body, b""
        request = decode(account.route, raw, account.request_id)
        del raw
        if isinstance(request, Refusal):
            self._refuse(request, account, exchange)
            return

        def deliver(answering: Answering, told: Told) -> Relay:
            lines = "".join([f"{name}: {value}\r\n" for name, value in told])
            return Relay(exchange, request, answering, self._date, lines)

        refusal = await self._conduct.serve(account, request, http.headers, deliver)
        if refusal is not None:
            self._refuse(refusal, account, exchange)

    def _refuse(self, refusal: Refusal, account: Account, exchange: Exchange) -> None:
        account.refused(refusal)
        keep_alive = exchange.keep_alive and not exchange.is_draining
        exchange.write(refusal_bytes(refusal, account.route, account.request_id, self._date, keep_alive=keep_alive))
        exchange.finish()
