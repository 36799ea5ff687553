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
from services.tracing.recording import MOVED, Recording
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
SERVER_ERROR = 500
"""HTTP's statuses of faults that are not the client's begin here."""
PORTS = {"http": 80, "https": 443}
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
    offset_ns = wall_ns - int(ended_s * _NS_PER_S)

    def at(moment_s: float) -> int:
        return offset_ns + int(moment_s * _NS_PER_S)

    spans = [_own(account, recording, at, ended_s)]
    waits, ends = recording.waits or [], recording.ends or []
    if recording.attempts:
        routed_s = waits[0][0] if waits else recording.attempts[0].begun_s
        begun_s = max(routed_s - recording.decision_s, account.started_s)
        spans.append(_routing(account, recording, (at(begun_s), at(routed_s))))
    for number, (begun_s, waited_to_s) in enumerate(waits, FIRST_WAIT):
        spans.append(_child(recording, number, "admission", (at(begun_s), at(waited_to_s)), {}))
    return spans + _attempts(account, recording, ends, at, ended_s)


def is_failure(account: Account) -> bool:
    """Whether a request failed by no fault of its client's: a 5xx, or an answer that broke off or came too late."""
    return account.status >= SERVER_ERROR or account.ending in {Ending.BROKEN, Ending.EXPIRED}


def _own(account: Account, recording: Recording, at: Clock, ended_s: float) -> Span:
    operation = OPERATIONS.get(account.route, account.route.value)
    ending, parent = account.ending.value, recording.parent
    return Span(
        f"{operation} {account.model}" if account.model else operation,
        Kind.SERVER,
        recording.context.trace_id,
        recording.context.span_id,
        None if parent is None else parent.span_id,
        at(account.started_s),
        at(ended_s),
        _own_attributes(account, recording, operation, ending),
        # Conventions of HTTP: what the client did wrong is no error of a server's span.
        (account.refusal_code or ending) if is_failure(account) else None,
        recording.context.state,
        recording.context.is_sampled,
    )


def _own_attributes(account: Account, recording: Recording, operation: str, ending: str) -> dict[str, Value]:
    outcome = account.outcome
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": account.model,
        "longreach.request_id": account.request_id,
        "longreach.ending": ending,
        "longreach.attempts": len(recording.attempts),
    }
    if account.api is Api.REST:
        found["http.request.method"] = "POST"
        found["url.path"] = f"/v1/{account.route.value}"
    else:
        found["rpc.system.name"] = "grpc"
    if account.status:
        found["http.response.status_code" if account.api is Api.REST else "longreach.status"] = account.status
    if account.identity is not None:
        found["longreach.tenant"] = account.identity.tenant.name
    if account.pool is not None:
        found["gen_ai.response.model"] = account.served_model
        found["longreach.pool"] = account.pool
        found["longreach.predicted_cached_tokens"] = account.expected_cached_tokens
    if account.first_byte_s is not None:
        found["gen_ai.response.time_to_first_chunk"] = account.first_byte_s
    if outcome is not None:
        found["gen_ai.usage.input_tokens"] = outcome.prompt_tokens
        found["gen_ai.usage.output_tokens"] = outcome.output_tokens
        found["gen_ai.usage.cache_read.input_tokens"] = outcome.cached_tokens
    if account.refusal_code or account.ending is not Ending.OK:
        found["error.type"] = account.refusal_code or ending
    if recording.prompt:
        found["longreach.request_body"] = recording.prompt[:PROMPT_BYTES_MAX].decode("utf-8", "replace")
    return found


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
        if why not in {ANSWERED, MOVED}:
            error = attributes["error.type"] = why
        elif is_failure(account) and why != MOVED:
            error = attributes["error.type"] = account.refusal_code or account.ending.value
        own_id = recording.span_id(number)
        spans.append(
            Span(
                "attempt",
                Kind.CLIENT,
                recording.context.trace_id,
                own_id,
                recording.context.span_id,
                at(attempt.begun_s),
                at(end_s),
                attributes,
                None if error is None else str(error),
                recording.context.state,
                recording.context.is_sampled,
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
        "server.port": address.port or PORTS.get(address.scheme, 0),
        "longreach.pool": endpoint.pool,
        "longreach.replica": endpoint.replica_id,
        "longreach.predicted_cached_tokens": choice.resident_tokens + choice.fetched_tokens,
    }


def _engine(account: Account, recording: Recording, parent_id: int, at: Clock, ended_s: float) -> list[Span]:
    """Of an engine's own times; they end where the gateway saw the first token, or else the last."""
    outcome = account.outcome
    if outcome is None or account.first_byte_s is None or not (outcome.prefill_s or outcome.decode_s):
        return []
    first_s = max(min(account.started_s + account.first_byte_s, ended_s - outcome.decode_s), account.started_s)
    scheduled_s = max(first_s - outcome.prefill_s, account.started_s)
    queued_s = max(scheduled_s - outcome.queue_s, account.started_s)
    tokens: dict[str, Value] = {
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
    }
    made: dict[str, Value] = {"gen_ai.usage.output_tokens": outcome.output_tokens}
    phases: list[tuple[str, float, float, dict[str, Value]]] = [
        ("engine.queue", queued_s, scheduled_s, {}),
        ("engine.prefill", scheduled_s, first_s, tokens),
        ("engine.decode", first_s, min(first_s + outcome.decode_s, ended_s), made),
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
        name,
        Kind.INTERNAL,
        context.trace_id,
        recording.span_id(number),
        context.span_id if parent_id is None else parent_id,
        times_ns[0],
        times_ns[1],
        attributes,
        None,
        context.state,
        context.is_sampled,
    )
