"""Errors as clients see them, before any wire format: one place for their status, code and sentence.

What lives here: the mapping from typed outcomes to refusals, once; REST writes one as JSON, gRPC as a status with
details. What must not: deciding anything, bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.admission.deadline import BadTimeout
from cluster.core.idempotency import BadKey
from cluster.core.prompt import CountKind
from cluster.core.quota import LimitKind
from cluster.core.request import ContextNeed, OverCap, Route
from cluster.core.routing import NoEndpoint, TooLong
from cluster.core.wire import HEADER_IDEMPOTENCY_KEY, HEADER_PRIORITY
from services.gateway.auth import Denial, Denied
from services.gateway.outcome import Busy, Failed, NotStarted, Overloaded, OverQuota, UnknownModel
from services.gateway.upstream import FailureKind, UpstreamFailure

INVALID_REQUEST = "invalid_request_error"
NOT_FOUND = "not_found_error"
SERVER_ERROR = "server_error"
AUTHENTICATION = "authentication_error"
PERMISSION = "permission_error"
RATE_LIMIT = "rate_limit_error"
OVERLOADED = "overloaded_error"

RETRY_AFTER_NO_ENDPOINT_S = 5
"""A replica that drains is replaced, one that crashed is healed: seconds with a warm model, a minute or two without."""
RETRY_AFTER_FULL_S = 1
MAX_NAMES_SHOWN = 20
"""Model names in a 404, so that the answer stays readable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is an error."""

    status: int
    """HTTP's; gRPC's is derived from it (services/grpc/status.py)."""
    message: str
    type: str = INVALID_REQUEST
    param: str | None = None
    code: str | None = None
    retry_after_s: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """What HTTP adds to it."""


def invalid(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """The client's own mistake."""
    return Refusal(status=status, message=message, param=param, code=code)


def full(limit: int) -> Refusal:
    """This gateway serves as many requests as it may."""
    return Refusal(
        status=429,
        message=f"This gateway serves {limit} requests at once and is full: try again shortly.",
        type=RATE_LIMIT,
        code="gateway_full",
        retry_after_s=RETRY_AFTER_FULL_S,
    )


def repeats_full() -> Refusal:
    """As many answers as it may hold are on their way to clients that read them slowly."""
    return Refusal(
        status=429,
        message="This gateway holds as much of answers with an idempotency key as it may: try again shortly.",
        type=RATE_LIMIT,
        code="gateway_full",
        retry_after_s=RETRY_AFTER_FULL_S,
    )


def denied(reason: Denied) -> Refusal:
    """Nobody this gateway knows."""
    said = "carries no API key" if reason.reason is Denial.MISSING else "carries an API key that is not valid"
    return Refusal(
        status=401,
        message=f"The request {said}: send `Authorization: Bearer KEY` (or `x-api-key: KEY`).",
        type=AUTHENTICATION,
        code="invalid_api_key",
        headers=(("www-authenticate", "Bearer"),),
    )


def not_admin() -> Refusal:
    """Somebody this gateway knows, who is no administrator."""
    return Refusal(
        status=403,
        message="This API key has the role client; this needs a key with the role admin.",
        type=PERMISSION,
        code="admin_role_required",
    )


def bad_timeout(mistake: BadTimeout) -> Refusal:
    """The client's deadline cannot be used."""
    return invalid(
        f"{mistake.header} must be seconds, over 0 and at most {mistake.limit_s:g} (given: {mistake.given!r}).",
        param=mistake.header,
        code="invalid_value",
    )


def bad_priority(given: str) -> Refusal:
    """The client's priority class does not exist."""
    return invalid(
        f"{HEADER_PRIORITY} must be high, normal or low (given: {given[:32]!r}).",
        param=HEADER_PRIORITY,
        code="invalid_value",
    )


def bad_key(mistake: BadKey) -> Refusal:
    """The client's idempotency key cannot be one."""
    return invalid(f"{HEADER_IDEMPOTENCY_KEY} {mistake.problem}.", param=HEADER_IDEMPOTENCY_KEY, code="invalid_value")


def key_reused() -> Refusal:
    """The client sends another request under a key."""
    return invalid(
        f"The {HEADER_IDEMPOTENCY_KEY} was used for another request, with another body or route: send a new key with a "
        f"new request, and the same bytes with the same key.",
        status=422,
        param=HEADER_IDEMPOTENCY_KEY,
        code="idempotency_key_reused",
    )


def late(limit_s: float) -> Refusal:
    """The deadline passed before the answer began."""
    return Refusal(
        status=504,
        message=f"The request's deadline of {limit_s:g} s passed before its answer began.",
        type=SERVER_ERROR,
        code="deadline_exceeded",
    )


def unreceived(limit_s: float) -> Refusal:
    """The client begins a request and does not end it."""
    return Refusal(status=408, message=f"The request did not arrive within {limit_s:g} s.", code="request_timeout")


def unread(limit_s: float) -> Refusal:
    """The client takes nothing of its answer, which holds a place in the engine."""
    return Refusal(
        status=408,
        message=f"The answer was broken off: nothing of it was read for {limit_s:g} s.",
        code="answer_unread",
    )


def expired(limit_s: float) -> Refusal:
    """The deadline passed under way."""
    return Refusal(
        status=504,
        message=f"The request's deadline of {limit_s:.3g} s passed before its answer was complete.",
        type=SERVER_ERROR,
        code="deadline_exceeded",
    )


def internal() -> Refusal:
    """A fault of the gateway's own; the log has it under the request id."""
    return Refusal(status=500, message="The gateway failed on this request; its log has the reason.", type=SERVER_ERROR)


def from_outcome(  # noqa: PLR0911 - one return an outcome
    outcome: UnknownModel | OverCap | OverQuota | TooLong | NoEndpoint | Busy | NotStarted | Overloaded | Failed,
    route: Route,
    output_field: str,
) -> Refusal:
    """The answer to a request that nobody serves.

    Args:
        outcome: why.
        route: what was asked for.
        output_field: the JSON field in which the client bounds the output, to name it.
    """
    match outcome:
        case UnknownModel():
            shown = ", ".join(outcome.known[:MAX_NAMES_SHOWN])
            return Refusal(
                status=404,
                message=f"The model {outcome.name!r} does not exist. Known here: {shown}.",
                type=NOT_FOUND,
                param="model",
                code="model_not_found",
            )
        case OverCap():
            return invalid(
                f"{output_field} is {outcome.requested_tokens:,}; at most {outcome.max_tokens:,} output tokens may be "
                f"asked for from this model.",
                param=output_field,
                code="output_over_cap",
            )
        case OverQuota():
            kind = "requests" if outcome.limit is LimitKind.REQUESTS else "tokens"
            return Refusal(
                status=429,
                message=f"Your limit of {kind} per minute is used up: try again in {outcome.retry_after_s} s.",
                type=RATE_LIMIT,
                code=f"{kind}_per_minute",
                retry_after_s=outcome.retry_after_s,
            )
        case Busy():
            return _busy(outcome)
        case TooLong():
            return _too_long(outcome, route, output_field)
        case NoEndpoint():
            return Refusal(
                status=503,
                message=f"No replica of {_pools(outcome)} is available now: try again in a moment.",
                type=SERVER_ERROR,
                code="no_replica_available",
                retry_after_s=RETRY_AFTER_NO_ENDPOINT_S,
            )
        case NotStarted():
            return Refusal(
                status=503,
                message=f"Pool {outcome.pool} has no replica yet, and one will not serve in time: try again in "
                f"{outcome.retry_after_s} s, or allow more time.",
                type=SERVER_ERROR,
                code="pool_not_started",
                retry_after_s=outcome.retry_after_s,
            )
        case Overloaded():
            return Refusal(
                status=outcome.status,
                message="Every replica that could take this request is busy: try again in a moment.",
                type=RATE_LIMIT if outcome.status == 429 else OVERLOADED,  # noqa: PLR2004 - Too Many Requests
                code="overloaded",
                retry_after_s=outcome.retry_after_s,
            )
        case Failed():
            return _failed(outcome)


def broken(failure: UpstreamFailure) -> Refusal:
    """What tells a client that its answer broke off under way and is not complete."""
    is_timeout = failure.kind is FailureKind.TIMEOUT
    return Refusal(
        status=504 if is_timeout else 502,
        message="The answer broke off: its replica failed. What arrived so far is not complete.",
        type=SERVER_ERROR,
        code="upstream_timeout" if is_timeout else "upstream_broken",
    )


def _too_long(outcome: TooLong, route: Route, output_field: str) -> Refusal:
    need = outcome.need
    about = "" if need.count is CountKind.EXACT else "about "
    size = f"Your prompt has {about}{need.prompt_tokens:,} tokens"
    if route.generates and need.is_explicit:
        size += f" and asks for {need.output_tokens:,} of output: {about}{need.total_tokens:,} in all"
    limit = f"the largest context of this model here is {outcome.largest_context_tokens:,} tokens"
    return invalid(
        f"{size}, and {limit}. {_remedy(need, outcome.largest_context_tokens, output_field)}",
        param=_prompt_field(route),
        code="context_length_exceeded",
    )


def _remedy(need: ContextNeed, largest_tokens: int, output_field: str) -> str:
    room = largest_tokens - need.prompt_tokens
    if need.output_tokens > 0 and room >= 1 and need.is_explicit:
        return f"Shorten the prompt, or set {output_field} to {room:,} or less."
    output = need.output_tokens if need.is_explicit else min(need.output_tokens, 1)
    return f"Shorten the prompt to {max(largest_tokens - output, 0):,} tokens or fewer."


def _prompt_field(route: Route) -> str:
    if route in {Route.CHAT, Route.MESSAGES}:
        return "messages"
    return "prompt" if route is Route.COMPLETIONS else "input"


def _failed(outcome: Failed) -> Refusal:
    match outcome.kind:
        case FailureKind.TIMEOUT:
            return Refusal(
                status=504,
                message=f"A replica of {outcome.pool} gave no answer in time.",
                type=SERVER_ERROR,
                code="upstream_timeout",
            )
        case FailureKind.RESET:
            return Refusal(
                status=502,
                message=f"A replica of {outcome.pool} broke off before its answer began: try again in a moment.",
                type=SERVER_ERROR,
                code="upstream_broken",
                retry_after_s=RETRY_AFTER_NO_ENDPOINT_S,
            )
        case FailureKind.CONNECT:
            return Refusal(
                status=503,
                message=f"No replica of {outcome.pool} could be reached: try again in a moment.",
                type=SERVER_ERROR,
                code="no_replica_available",
                retry_after_s=RETRY_AFTER_NO_ENDPOINT_S,
            )


def _busy(outcome: Busy) -> Refusal:
    if outcome.is_late:
        return Refusal(
            status=504,
            message="The request's deadline would pass before a replica is free: allow more time, or try again later.",
            type=SERVER_ERROR,
            code="deadline_exceeded",
            retry_after_s=outcome.retry_after_s,
        )
    return Refusal(
        status=429,
        message="Every replica that could take this request is at capacity: try again in a moment.",
        type=RATE_LIMIT,
        code="overloaded",
        retry_after_s=outcome.retry_after_s,
    )


def _pools(outcome: NoEndpoint) -> str:
    names = ", ".join(outcome.pools)
    return f"pool {names}" if len(outcome.pools) == 1 else f"the pools {names}"
