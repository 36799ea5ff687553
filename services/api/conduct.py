"""One request's way through the gateway, the same for every API: admit, ask, find, deliver, account.

An API (REST, gRPC) decodes and says how an answer is delivered; who may ask, deadlines, dispatch, cancellation and the
books are here. A client that leaves cancels its task, which ends all of it at once, streaming or not: that is
what aborts the engine. What must not live here: wire formats.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from cluster.core import wire
from cluster.core.request import InferenceRequest
from cluster.core.routing import explain
from services.api.account import Account, Delivery, Ending
from services.api.books import Bookkeeper
from services.api.decode import output_field_of
from services.api.gateway import Gateway
from services.api.refusals import Refusal, expired, from_outcome, full, late
from services.api.repeats import Deliver, Repeats, Told
from services.api.sender import ask_of, identify
from services.gateway.ask import Ask
from services.gateway.outcome import Served
from services.gateway.upstream import FailureKind, UpstreamFailure

MAX_REASON_CHARS = 512
"""A header line stays well under what proxies take (8 KiB)."""
MAX_EXPLANATION_CHARS = 6 * 1024
"""With it, all headers of an answer stay under what proxies take; `longreach explain` shows everything."""


class Conduct:
    """Takes requests through."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self.books = Bookkeeper(gateway)
        self.repeats = Repeats(gateway, self.books, self.answer)

    def admit(self, account: Account, headers: Mapping[str, str], certificate: str | None = None) -> Refusal | None:
        """Who asks, and whether there is room: what can be said without reading the body.

        Args:
            account: learns who it is.
            headers: the client's, by lower-case name.
            certificate: the common name in the client's certificate, where it showed one that was verified.
        """
        identity = identify(self._gateway, headers, certificate)
        tracing = self._gateway.tracing
        if tracing is not None:
            # Who is not known does not decide what is kept.
            account.recording = tracing.begin({} if isinstance(identity, Refusal) else headers)
        if isinstance(identity, Refusal):
            return identity
        account.identity = identity
        limits = self._gateway.current.catalog.config.gateway.limits
        return full(limits.concurrent_requests) if self._gateway.in_flight >= limits.concurrent_requests else None

    def begin(self) -> None:
        """An admitted request is being served from now on; `end` must follow."""
        self._gateway.in_flight += 1
        self.books.started()

    def end(self, account: Account) -> None:
        """It no longer is."""
        self._gateway.in_flight -= 1
        self.books.ended(account)

    async def serve(
        self,
        account: Account,
        request: InferenceRequest,
        headers: Mapping[str, str],
        deliver: Deliver,
        *,
        left_s: float | None = None,
    ) -> Refusal | None:
        """Find who answers, and let the answer flow until it has ended; the refusal where there is none.

        Args:
            account: of this request.
            request: decoded.
            headers: the client's, by lower-case name.
            deliver: makes the delivery of an answer that has begun, with what its head says of it.
            left_s: seconds that the client's own protocol leaves; None where it sets no limit.

        Raises:
            asyncio.CancelledError: the client has left.
        """
        account.model = request.model
        assert account.identity is not None
        recording, tracing = account.recording, self._gateway.tracing
        if recording is not None and tracing is not None and tracing.settings.prompts:
            recording.prompt = request.body
        ask = ask_of(
            self._gateway, request, headers, account.identity, account.started_s, left_s=left_s, recording=recording
        )
        if isinstance(ask, Refusal):
            return ask
        account.limit_s = ask.deadline.at_s - account.started_s
        key = headers.get(wire.HEADER_IDEMPOTENCY_KEY)
        if key is not None and self._gateway.current.catalog.config.gateway.limits.idempotency_s:
            return await self._in_time(account, ask, self.repeats.serve(account, ask, key, deliver))
        return await self.answer(account, ask, deliver)

    async def answer(self, account: Account, ask: Ask, deliver: Callable[[Served, Told], Delivery]) -> Refusal | None:
        """As `serve`, for a request that nobody else asked: it is answered here, and paid."""
        return await self._in_time(account, ask, self._answer(account, ask, deliver))

    async def _answer(self, account: Account, ask: Ask, deliver: Callable[[Served, Told], Delivery]) -> Refusal | None:
        dispatcher, request = self._gateway.dispatcher, ask.request
        outcome = await dispatcher.find(ask)
        if not isinstance(outcome, Served):
            return from_outcome(outcome, request.route, output_field_of(request.route, request.body))
        account.served(outcome, self._gateway.clock())
        try:
            delivery = account.delivery = deliver(outcome, answer_headers(outcome, account, ask.headers))
            delivery.start()
            if not delivery.is_over:
                await delivery.ended()
        finally:
            account.went_on(outcome)
            if account.delivery is not None:
                account.delivered(account.delivery)
            dispatcher.release(outcome, account.outcome)
        return None

    async def _in_time(self, account: Account, ask: Ask, work: Coroutine[Any, Any, Refusal | None]) -> Refusal | None:
        """What `work` says, within the request's deadline."""
        task = asyncio.current_task()
        assert task is not None
        timer = self._loop.call_later(ask.deadline.left_s(self._gateway.clock()), _expire, account, task)
        try:
            return await work
        except asyncio.CancelledError:
            if not account.is_expired:
                account.ending = Ending.CLIENT_GONE
                raise
            task.uncancel()
            return late(account.limit_s) if account.first_byte_s is None else expired(account.limit_s)
        finally:
            timer.cancel()


def answer_headers(served: Served, account: Account, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What an answer's head, or its initial metadata, says of where the request went and why.

    Args:
        served: the answer.
        account: of its request.
        headers: the client's; one of them asks for the whole reasoning.
    """
    endpoint = served.choice.endpoint
    told = [
        (wire.HEADER_REQUEST_ID, account.request_id),
        (wire.HEADER_POOL, endpoint.pool),
        (wire.HEADER_REPLICA, endpoint.replica_id),
        (wire.HEADER_REASON, served.choice.reason[:MAX_REASON_CHARS]),
        (wire.HEADER_DECISION_US, str(round(served.decision_s * 1e6))),
    ]
    if endpoint.revision:
        told.append((wire.HEADER_REVISION, endpoint.revision))
    query = served.choice.case.query
    if query.resident or query.fetches:
        fetched_tokens = served.choice.fetched_tokens
        told.append((wire.HEADER_PREDICTED, str(served.choice.resident_tokens + fetched_tokens)))
        if fetched_tokens:
            told.append((wire.HEADER_PREDICTED_REDIS, str(fetched_tokens)))
    if served.attempts > 1:
        told.append((wire.HEADER_ATTEMPTS, str(served.attempts)))
    if headers.get(wire.HEADER_EXPLAIN) == "1":
        text = json.dumps(explain(served.decision), separators=(",", ":"))
        told.append((wire.HEADER_EXPLANATION, text[:MAX_EXPLANATION_CHARS]))
    return told


def _expire(account: Account, task: asyncio.Task[Any]) -> None:
    """The request's deadline has passed: the engine is aborted, whatever it is doing."""
    account.is_expired = True
    if account.delivery is not None:
        account.delivery.cancel(UpstreamFailure(kind=FailureKind.TIMEOUT, detail="the request's deadline passed"))
    else:
        task.cancel()
