"""The one use case: take a decoded request, find who serves it, and hand over an answer whose first bytes are here.

It reads as the request's story: model, output budget, prompt length, pool and endpoint, attempts. REST calls it now
and gRPC will; who may ask and how much (authentication, quotas) will come before `_need`, the cheap refusals first.
What must not live here: HTTP from the client's side, sentences for clients, tokenizing, connections.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cluster.config import LimitsSection
from cluster.core import wire
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.request import ContextNeed, InferenceRequest, OverCap, Route, context_need, output_need
from cluster.core.routing import Choice, Decision, NoEndpoint, Pool, TooLong, route
from services.gateway.catalog import Catalog, Resolved
from services.gateway.current import Current
from services.gateway.directory import Directory
from services.gateway.metrics import Metrics
from services.gateway.outcome import Failed, Outcome, Overloaded, Served, UnknownModel
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import FailureKind, Upstream, UpstreamAnswer, UpstreamCall, UpstreamFailure

MAX_RESETS = 2
"""A request under which two engines broke off is not given a third: it may be what breaks them."""
MAX_REFUSALS = 4
"""Pools that may refuse one request as too long for them. Each knows the exact length from then on, so the second
choice normally holds; more means replicas and configuration disagree."""
RETRY_AFTER_S = 1
"""Where an overloaded endpoint names no time: about one short answer."""
MAX_RETRY_AFTER_S = 60
OVERLOAD_STATUSES = frozenset({429, 503})
LEAVING_REFUSALS = frozenset({wire.REFUSAL_DRAINING, wire.REFUSAL_STALLED})
FORWARDED_HEADERS = ("accept", "traceparent", "tracestate")
"""The only headers of a client that an engine sees: all others could steer Serve, or carry secrets."""
UNPREFIXED_ROUTES = frozenset({Route.TOKENIZE, Route.DETOKENIZE})
"""vLLM serves these beside /v1, not below it."""


@dataclass(slots=True, kw_only=True)
class _Attempts:
    """What was tried for one request so far."""

    tried: set[ReplicaId] = field(default_factory=set)
    """Endpoints that failed or were busy."""
    refused: dict[PoolName, int] = field(default_factory=dict)
    """Pools that found the request too long, with the output tokens they were asked for."""
    sent: int = 0
    resets: int = 0
    refusals: int = 0
    last: Overloaded | Failed | None = None

    def may_try(self, choice: Choice) -> bool:
        refused_tokens = self.refused.get(choice.endpoint.pool)
        if refused_tokens is not None and choice.output_tokens >= refused_tokens:
            return False
        return choice.endpoint.replica_id not in self.tried

    def are_over(self, limits: LimitsSection) -> bool:
        return (
            self.sent - self.refusals >= limits.attempts
            or self.resets >= MAX_RESETS
            or self.refusals >= MAX_REFUSALS
            or (isinstance(self.last, Failed) and self.last.kind is FailureKind.TIMEOUT)
        )


class Dispatcher:
    """Finds who serves a request."""

    def __init__(
        self,
        *,
        current: Current,
        directory: Directory,
        counter: PromptCounter,
        upstream: Upstream,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._current = current
        self._directory = directory
        self._counter = counter
        self._upstream = upstream
        self._metrics = metrics
        self._rng = rng

    @asynccontextmanager
    async def open(self, request: InferenceRequest, client_headers: Mapping[str, str]) -> AsyncIterator[Outcome]:
        """What becomes of `request`; leaving the context lets go of the answer and aborts one that is not complete.

        Args:
            request: the decoded request.
            client_headers: by lower-case name; only a few are passed on.
        """
        outcome = await self._find(request, client_headers)
        try:
            yield outcome
        finally:
            if isinstance(outcome, Served):
                outcome.answer.close()
                self._directory.finished(outcome.choice.endpoint.replica_id)

    async def _find(self, request: InferenceRequest, client_headers: Mapping[str, str]) -> Outcome:
        catalog = self._current.catalog
        resolved = catalog.resolve(request.model)
        if resolved is None:
            return UnknownModel(name=request.model, known=catalog.names())
        pools = self._directory.pools(resolved.model)
        need = await self._need(request, resolved, pools)
        if isinstance(need, OverCap):
            return need
        attempts = _Attempts()
        while True:
            # Asked again for every attempt: what failed a moment ago is known by now.
            names = {pool.name for pool in pools}
            decision = route(need, pools, self._directory.endpoints(catalog, names), self._rng)
            if isinstance(decision, TooLong):
                return decision
            choice = None if attempts.are_over(catalog.config.gateway.limits) else _next(decision, attempts)
            if choice is None:
                return _given_up(decision, attempts, need, pools)
            attempts.sent += 1
            answer = await self._send(request, client_headers, catalog, resolved, choice)
            if isinstance(answer, UpstreamFailure):
                self._note_failure(choice, answer, attempts)
            elif answer.headers.get(wire.HEADER_REFUSAL) == wire.REFUSAL_CONTEXT:
                need = self._note_refusal(choice, answer, attempts, need, pools)
            elif answer.status in OVERLOAD_STATUSES:
                self._note_overload(choice, answer, attempts)
            else:
                self._metrics.attempt(choice.endpoint.pool, "answered")
                return Served(answer=answer, choice=choice, attempts=attempts.sent, prompt_tokens=need.prompt_tokens)

    async def _need(
        self, request: InferenceRequest, resolved: Resolved, pools: tuple[Pool, ...]
    ) -> ContextNeed | OverCap:
        policy = resolved.model.policy
        output = output_need(request, policy)
        if isinstance(output, OverCap):
            return output
        sizes_tokens = [pool.context_tokens for pool in pools]
        prompt = await self._counter.count(
            resolved.model.section.id, request.prompt, enough_tokens=min(sizes_tokens) - output[0]
        )
        return context_need(request, prompt=prompt, policy=policy, largest_context_tokens=max(sizes_tokens))

    async def _send(
        self,
        request: InferenceRequest,
        client_headers: Mapping[str, str],
        catalog: Catalog,
        resolved: Resolved,
        choice: Choice,
    ) -> UpstreamAnswer | UpstreamFailure:
        call = _call(request, client_headers, catalog, resolved, choice)
        replica_id = choice.endpoint.replica_id
        self._directory.started(replica_id)
        is_answered = False
        try:
            answer = await self._upstream.send(call, catalog.config.gateway.limits)
            is_answered = not isinstance(answer, UpstreamFailure) and not _is_passed_over(answer)
            return answer
        finally:
            if not is_answered:
                self._directory.finished(replica_id)

    def _note_failure(self, choice: Choice, failure: UpstreamFailure, attempts: _Attempts) -> None:
        self._metrics.attempt(choice.endpoint.pool, failure.kind.value)
        self._directory.suspect(choice.endpoint.replica_id)
        attempts.tried.add(choice.endpoint.replica_id)
        attempts.resets += failure.kind is FailureKind.RESET
        attempts.last = Failed(kind=failure.kind, pool=choice.endpoint.pool, attempts=attempts.sent)

    def _note_overload(self, choice: Choice, answer: UpstreamAnswer, attempts: _Attempts) -> None:
        self._metrics.attempt(choice.endpoint.pool, "overloaded")
        # A bare 503 or 429 only means busy; a drain or a stall means that no other request should go there either.
        if answer.headers.get(wire.HEADER_REFUSAL) in LEAVING_REFUSALS:
            self._directory.suspect(choice.endpoint.replica_id)
        attempts.tried.add(choice.endpoint.replica_id)
        attempts.last = Overloaded(
            status=answer.status, retry_after_s=_retry_after_s(answer.headers), attempts=attempts.sent
        )
        answer.close()

    def _note_refusal(
        self,
        choice: Choice,
        answer: UpstreamAnswer,
        attempts: _Attempts,
        need: ContextNeed,
        pools: tuple[Pool, ...],
    ) -> ContextNeed:
        """The need as it stands after a replica counted the prompt exactly."""
        self._metrics.attempt(choice.endpoint.pool, "refused")
        answer.close()
        pool = choice.endpoint.pool
        attempts.refusals += 1
        attempts.refused[pool] = min(choice.output_tokens, attempts.refused.get(pool, choice.output_tokens))
        told = answer.headers.get(wire.HEADER_PROMPT_TOKENS, "")
        if told.isascii() and told.isdigit():
            prompt = PromptTokens(tokens=int(told), kind=CountKind.EXACT)
        else:
            limit = next(known.context_tokens for known in pools if known.name == pool)
            over_tokens = limit - choice.output_tokens + 1
            prompt = PromptTokens(tokens=max(need.prompt_tokens, over_tokens), kind=CountKind.ABOUT)
        return ContextNeed(
            prompt_tokens=prompt.tokens,
            output_tokens=need.output_tokens,
            is_explicit=need.is_explicit,
            count=prompt.kind,
        )


def _next(decision: Decision | NoEndpoint, attempts: _Attempts) -> Choice | None:
    if isinstance(decision, NoEndpoint):
        return None
    return next((choice for choice in decision.choices if attempts.may_try(choice)), None)


def _given_up(
    decision: Decision | NoEndpoint, attempts: _Attempts, need: ContextNeed, pools: tuple[Pool, ...]
) -> Overloaded | Failed | TooLong | NoEndpoint:
    if attempts.last is not None:
        return attempts.last
    if isinstance(decision, NoEndpoint):
        return decision
    # Every pool that should hold it refused: the replicas run with less than the configuration says.
    return TooLong(need=need, largest_context_tokens=max(pool.context_tokens for pool in pools))


def _call(
    request: InferenceRequest, client_headers: Mapping[str, str], catalog: Catalog, resolved: Resolved, choice: Choice
) -> UpstreamCall:
    endpoint = choice.endpoint
    prefix = "" if request.route in UNPREFIXED_ROUTES else "/v1"
    headers = {name: client_headers[name] for name in FORWARDED_HEADERS if name in client_headers}
    headers["content-type"] = "application/json"
    headers[wire.HEADER_REQUEST_ID] = request.request_id
    output_tokens = choice.output_tokens if request.route.generates else None
    body = request.body
    static = catalog.static(endpoint.replica_id)
    if static is None:
        headers[wire.HEADER_MODEL] = resolved.engine_name
        if output_tokens is not None:
            headers[wire.HEADER_OUTPUT_TOKENS] = str(output_tokens)
    else:
        if static.api_key is not None:
            headers["authorization"] = f"Bearer {static.api_key}"
        body = wire.apply_decision(
            request.route,
            body,
            model=static.model or resolved.engine_name,
            output_tokens=output_tokens,
            sampling=resolved.model.sampling,
        )
    return UpstreamCall(
        url=f"{endpoint.url}{prefix}/{request.route.value}", headers=headers, body=body, is_static=static is not None
    )


def _is_passed_over(answer: UpstreamAnswer) -> bool:
    return answer.status in OVERLOAD_STATUSES or answer.headers.get(wire.HEADER_REFUSAL) == wire.REFUSAL_CONTEXT


def _retry_after_s(headers: Mapping[str, str]) -> int:
    told = headers.get("retry-after", "")
    return min(int(told), MAX_RETRY_AFTER_S) if told.isascii() and told.isdigit() else RETRY_AFTER_S
