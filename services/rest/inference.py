"""Serves every route that a replica answers: identify, decode, dispatch, relay, account.

A client that leaves ends all of it at once, streaming or not: that is what aborts the engine. What must not live
here: the steps themselves, each has a module.
"""

from __future__ import annotations

import asyncio
import json
import logging

from cluster.core import wire
from cluster.core.request import Route
from cluster.core.routing import explain
from services.gateway.outcome import Served
from services.gateway.upstream import FailureKind, UpstreamFailure
from services.http1.answer import HttpDate
from services.http1.exchange import Exchange
from services.http1.request import HttpRequest
from services.rest.account import Account, Bookkeeper, Ending, ending_of
from services.rest.decode import decode, output_field_of, request_id_of
from services.rest.errors import Refusal, from_outcome, full, internal, invalid, late, wrong_method
from services.rest.gateway import Gateway
from services.rest.refusal import refusal_bytes
from services.rest.relay import Relay
from services.rest.sender import ask_of, identify

logger = logging.getLogger(__name__)

MAX_REASON_CHARS = 512
"""A header line stays well under what proxies take (8 KiB)."""
MAX_EXPLANATION_CHARS = 6 * 1024
"""With it, all headers of an answer stay under what proxies take; `longreach explain` shows everything."""


class InferenceHandler:
    """Answers inference requests, a task for each."""

    def __init__(self, gateway: Gateway, date: HttpDate) -> None:
        self._gateway = gateway
        self._date = date
        self._books = Bookkeeper(gateway)
        self._loop = asyncio.get_running_loop()
        self._running: dict[Exchange, asyncio.Task[None]] = {}

    def __call__(self, route: Route, http: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer one request."""
        account = Account(request_id_of(http.headers), route, self._gateway.clock())
        refusal = self._refusal(http, account)
        if refusal is not None:
            self._refuse(refusal, account, exchange)
            self._books.refused(account)
            return
        self._gateway.in_flight += 1
        self._books.started()
        task = self._loop.create_task(self._run(http, exchange, account))
        self._running[exchange] = task
        exchange.on_gone = task.cancel

    def _refusal(self, http: HttpRequest, account: Account) -> Refusal | None:
        """What can be said without reading the body."""
        if http.method != "POST":
            return wrong_method(http.method, http.path, ("POST",))
        identity = identify(self._gateway, http.headers)
        if isinstance(identity, Refusal):
            return identity
        account.identity = identity
        limits = self._gateway.current.catalog.config.gateway.limits
        if self._gateway.in_flight >= limits.concurrent_requests:
            return full(limits.concurrent_requests)
        encoding = http.headers.get("content-encoding")
        if encoding is None or encoding.strip().lower() in {"", "identity"}:
            return None
        return invalid(
            f"The content encoding {encoding[:32]!r} is not taken: send the body as it is.",
            status=415,
            code="unsupported_encoding",
        )

    async def _run(self, http: HttpRequest, exchange: Exchange, account: Account) -> None:
        try:
            await self._serve(http, exchange, account)
        except asyncio.CancelledError:
            if account.is_expired:
                self._refuse(late(account.limit_s), account, exchange)
                account.ending = Ending.EXPIRED
            else:
                account.ending = Ending.CLIENT_GONE
        except Exception:
            logger.exception("request failed", extra={"request_id": account.request_id})
            if account.status:
                account.ending = Ending.BROKEN
                exchange.cut()
            else:
                self._refuse(internal(), account, exchange)
        finally:
            del self._running[exchange]
            self._gateway.in_flight -= 1
            self._books.ended(account)

    async def _serve(self, http: HttpRequest, exchange: Exchange, account: Account) -> None:
        raw, http.body = http.body, b""
        request = decode(account.route, raw, account.request_id)
        del raw
        if isinstance(request, Refusal):
            self._refuse(request, account, exchange)
            return
        account.model = request.model
        assert account.identity is not None
        ask = ask_of(self._gateway, request, http.headers, account.identity, account.started_s)
        if isinstance(ask, Refusal):
            self._refuse(ask, account, exchange)
            return
        account.limit_s = ask.deadline.at_s - account.started_s
        timer = self._loop.call_later(ask.deadline.left_s(self._gateway.clock()), self._expire, exchange, account)
        try:
            dispatcher = self._gateway.dispatcher
            outcome = await dispatcher.find(ask)
            if not isinstance(outcome, Served):
                field = output_field_of(request.route, request.body)
                self._refuse(from_outcome(outcome, request.route, field), account, exchange)
                return
            account.served(outcome, self._gateway.clock())
            relay = account.relay = Relay(exchange, request, outcome, self._date)
            try:
                relay.start(self._own_lines(outcome, account, http))
                if not relay.is_over:
                    await relay.ended()
            finally:
                account.relayed(relay)
                dispatcher.release(outcome, account.outcome)
        finally:
            timer.cancel()

    def _expire(self, exchange: Exchange, account: Account) -> None:
        """The request's deadline has passed: the engine is aborted, whatever it is doing."""
        account.is_expired = True
        if account.relay is not None:
            account.relay.cancel(UpstreamFailure(kind=FailureKind.TIMEOUT, detail="the request's deadline passed"))
        else:
            self._running[exchange].cancel()

    def _own_lines(self, served: Served, account: Account, http: HttpRequest) -> str:
        """Header lines that say where the request went and why."""
        endpoint = served.choice.endpoint
        lines = (
            f"{wire.HEADER_REQUEST_ID}: {account.request_id}\r\n"
            f"{wire.HEADER_POOL}: {endpoint.pool}\r\n"
            f"{wire.HEADER_REPLICA}: {endpoint.replica_id}\r\n"
            f"{wire.HEADER_REASON}: {served.choice.reason[:MAX_REASON_CHARS]}\r\n"
            f"{wire.HEADER_DECISION_US}: {round(served.decision_s * 1e6)}\r\n"
        )
        query = served.choice.case.query
        if query.resident or query.fetches:
            fetched_tokens = served.choice.fetched_tokens
            lines += f"{wire.HEADER_PREDICTED}: {served.choice.resident_tokens + fetched_tokens}\r\n"
            if fetched_tokens:
                lines += f"{wire.HEADER_PREDICTED_REDIS}: {fetched_tokens}\r\n"
        if served.attempts > 1:
            lines += f"{wire.HEADER_ATTEMPTS}: {served.attempts}\r\n"
        if http.headers.get(wire.HEADER_EXPLAIN) == "1":
            text = json.dumps(explain(served.decision), separators=(",", ":"))
            lines += f"{wire.HEADER_EXPLANATION}: {text[:MAX_EXPLANATION_CHARS]}\r\n"
        return lines

    def _refuse(self, refusal: Refusal, account: Account, exchange: Exchange) -> None:
        account.status = refusal.status
        account.refusal_code = refusal.code or ""
        account.ending = ending_of(refusal.status)
        keep_alive = exchange.keep_alive and not exchange.is_draining
        exchange.write(refusal_bytes(refusal, account.route, account.request_id, self._date, keep_alive=keep_alive))
        exchange.finish()
