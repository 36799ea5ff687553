"""What the spans of one request say: its own, its wait, its attempts, and what its engine did.

Names are those of OpenTelemetry's semantic conventions 1.41 where they have one (gen_ai.*, http.*, rpc.*, server.*,
error.type), `longreach.*` else. What must not live here: keeping or sending spans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from cluster.core.request import Route
from cluster.core.routing import Choice
from services.api.account import Account, Api, Ending
from services.tracing.recording import Recording
from services.tracing.span import Kind, Span, Value

PROVIDER = "longreach"
PROMPT_BYTES_MAX = 8_192
OPERATIONS = {
    Route.CHAT: "chat",
    Route.COMPLETIONS: "text_completion",
    Route.RESPONSES: "chat",
    Route.MESSAGES: "chat",
    Route.EMBEDDINGS: "embeddings",
}
"""GenAI's names; other routes have their own."""
ERROR_ENDINGS = frozenset({Ending.UNAVAILABLE, Ending.BROKEN, Ending.EXPIRED})
ANSWERED = "answered"
ROUTING, FIRST_PHASE, FIRST_WAIT = 32, 33, 64
"""Numbers of spans, beyond the attempts'."""
_NS_PER_S = 1_000_000_000
Clock = Callable[[float], int]
"""Nanoseconds since the epoch at a monotonic time."""


def spans_of(account: Account, recording: Recording, *, ended_s: float, wall_ns: int) -> list[Span]:
    """Every span of a request that has ended, its own first.

    Args:
        account: of the request.
        recording: of the same.
        ended_s: when it ended, monotonic.
        wall_ns: the same moment since the epoch.
    """

    def at(moment_s: float) -> int:
        return wall_ns - round((ended_s - moment_s) * _NS_PER_S)

    spans = [_own(account, recording, at, ended_s)]
    waits, ends = recording.waits or [], recording.ends or []
    if recording.attempts:
        routed_s = waits[0][0] if waits else recording.attempts[0].begun_s
        spans.append(_routing(account, recording, (at(routed_s - recording.decision_s), at(routed_s))))
    for number, (begun_s, waited_to_s) in enumerate(waits, FIRST_WAIT):
        spans.append(_child(recording, number, "admission", (at(begun_s), at(waited_to_s)), {}))
    return spans + _attempts(account, recording, ends, at, ended_s)


def _own(account: Account, recording: Recording, at: Clock, ended_s: float) -> Span:
    operation = OPERATIONS.get(account.route, account.route.value)
    outcome, identity = account.outcome, account.identity
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": account.model,
        "http.response.status_code": account.status,
        "longreach.request_id": account.request_id,
        "longreach.ending": account.ending.value,
        "longreach.attempts": account.attempts,
    }
    if account.api is Api.REST:
        attributes |= {"http.request.method": "POST", "url.path": f"/v1/{account.route.value}"}
    else:
        attributes["rpc.system.name"] = "grpc"
    if account.served_model:
        attributes["gen_ai.response.model"] = account.served_model
    if identity is not None:
        attributes["longreach.tenant"] = identity.tenant.name
    if account.pool is not None:
        attributes["longreach.pool"] = account.pool
        attributes["longreach.predicted_cached_tokens"] = account.expected_cached_tokens
    if account.first_byte_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = account.first_byte_s
    if outcome is not None:
        attributes |= {
            "gen_ai.usage.input_tokens": outcome.prompt_tokens,
            "gen_ai.usage.output_tokens": outcome.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
        }
    if account.refusal_code:
        attributes["error.type"] = account.refusal_code
    elif account.ending is not Ending.OK:
        attributes["error.type"] = account.ending.value
    if recording.prompt:
        attributes["gen_ai.input.messages"] = recording.prompt[:PROMPT_BYTES_MAX].decode("utf-8", "replace")
    context, parent = recording.context, recording.parent
    return Span(
        name=f"{operation} {account.model}" if account.model else operation,
        kind=Kind.SERVER,
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_id=None if parent is None else parent.span_id,
        start_ns=at(account.started_s),
        end_ns=at(ended_s),
        attributes=attributes,
        # Conventions of HTTP: what the client did wrong is no error of a server's span.
        error=(account.refusal_code or account.ending.value) if account.ending in ERROR_ENDINGS else None,
        state=context.state,
        is_sampled=context.is_sampled,
    )


def _routing(account: Account, recording: Recording, times_ns: tuple[int, int]) -> Span:
    choice = recording.attempts[0].choice
    attributes: dict[str, Value] = {"longreach.reason": choice.reason, "longreach.score": choice.score}
    if account.prompt_tokens is not None:
        attributes["longreach.prompt_tokens"] = account.prompt_tokens
    for name, value in choice.scores.items():
        attributes[f"longreach.score.{name}"] = value
    return _child(recording, ROUTING, "route", times_ns, attributes)


def _attempts(
    account: Account, recording: Recording, ends: Sequence[tuple[float, str]], at: Clock, ended_s: float
) -> list[Span]:
    spans = []
    for number, attempt in enumerate(recording.attempts, 1):
        is_last = number == len(recording.attempts)
        end_s, why = ended_s, ANSWERED if account.first_byte_s is not None else account.ending.value
        if number <= len(ends):
            end_s, why = ends[number - 1]
        attributes = _attempt_attributes(attempt.choice)
        error = None
        if why != ANSWERED:
            error = attributes["error.type"] = why
        elif account.ending is Ending.BROKEN:
            error = attributes["error.type"] = account.ending.value
        own_id = recording.span_id(number)
        spans.append(
            Span(
                name="attempt",
                kind=Kind.CLIENT,
                trace_id=recording.context.trace_id,
                span_id=own_id,
                parent_id=recording.context.span_id,
                start_ns=at(attempt.begun_s),
                end_ns=at(end_s),
                attributes=attributes,
                error=None if error is None else str(error),
                state=recording.context.state,
                is_sampled=recording.context.is_sampled,
            )
        )
        if is_last and why == ANSWERED:
            spans += _engine(account, recording, own_id, at, ended_s)
    return spans


def _attempt_attributes(choice: Choice) -> dict[str, Value]:
    endpoint = choice.endpoint
    address = urlsplit(endpoint.url)
    return {
        "server.address": address.hostname or endpoint.url,
        "server.port": address.port or 0,
        "longreach.pool": endpoint.pool,
        "longreach.replica": endpoint.replica_id,
        "longreach.predicted_cached_tokens": choice.resident_tokens + choice.fetched_tokens,
    }


def _engine(account: Account, recording: Recording, parent_id: int, at: Clock, ended_s: float) -> list[Span]:
    """Of an engine's own times; they end where the gateway saw the first token, or else the last."""
    outcome = account.outcome
    if outcome is None or account.first_byte_s is None or not (outcome.prefill_s or outcome.decode_s):
        return []
    first_s = min(account.started_s + account.first_byte_s, ended_s - outcome.decode_s)
    scheduled_s = max(first_s - outcome.prefill_s, account.started_s)
    queued_s = max(scheduled_s - outcome.queue_s, account.started_s)
    tokens: dict[str, Value] = {
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
    }
    phases: list[tuple[str, float, float, dict[str, Value]]] = [
        ("engine.queue", queued_s, scheduled_s, {}),
        ("engine.prefill", scheduled_s, first_s, tokens),
        ("engine.decode", first_s, first_s + outcome.decode_s, {"gen_ai.usage.output_tokens": outcome.output_tokens}),
    ]
    return [
        _child(recording, number, name, (at(from_s), at(to_s)), attributes, parent_id=parent_id)
        for number, (name, from_s, to_s, attributes) in enumerate(phases, FIRST_PHASE)
    ]


def _child(
    recording: Recording,
    number: int,
    name: str,
    times_ns: tuple[int, int],
    attributes: dict[str, Value],
    *,
    parent_id: int | None = None,
) -> Span:
    context = recording.context
    return Span(
        name=name,
        kind=Kind.INTERNAL,
        trace_id=context.trace_id,
        span_id=recording.span_id(number),
        parent_id=context.span_id if parent_id is None else parent_id,
        start_ns=times_ns[0],
        end_ns=times_ns[1],
        attributes=attributes,
        state=context.state,
        is_sampled=context.is_sampled,
    )
