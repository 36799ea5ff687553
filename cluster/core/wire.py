"""Names on the wire between client, gateway and replica, and the one place where a body is rewritten.

What lives here: header names and `apply_decision`, used by the replica's own layer and by the gateway in front of
foreign engines, so that both mean the same. What must not: sockets, frameworks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.core import resume
from cluster.core.request import Route

HEADER_REQUEST_ID = "x-request-id"
HEADER_POOL = "x-longreach-pool"
HEADER_REPLICA = "x-longreach-replica"
HEADER_REVISION = "x-longreach-revision"
"""Gateway to client: what the replica calls itself; absent where it has no name."""
HEADER_REASON = "x-longreach-reason"
HEADER_ATTEMPTS = "x-longreach-attempts"
"""Gateway to client: how many replicas were tried, where it was more than one."""
HEADER_MODEL = "x-longreach-model"
"""Gateway to replica: the engine's own name for the model, where the client used an alias."""
HEADER_OUTPUT_TOKENS = "x-longreach-output-tokens"
"""Gateway to replica: the output budget decided for this request."""
HEADER_GROWS = "x-longreach-grows"
"""Gateway to replica: the output that a stream may have in all, where it is more than the budget decided for this pool:
the replica gives what its context leaves, and tells with COMMENT_FULL where that was not enough."""
HEADER_REFUSAL = "x-longreach-refusal"
"""Replica to gateway: why it would not take the request; see the REFUSAL_ constants."""
HEADER_PROMPT_TOKENS = "x-longreach-prompt-tokens"
"""Replica to gateway, with a context refusal: the prompt's exact length."""

HEADER_CREDENTIAL = "x-longreach-credential"
"""Gateway to replica: the cluster's secret; a replica answers nobody else."""
HEADER_PRIORITY = "x-longreach-priority"
"""Client to gateway: a class (high, normal, low). Gateway to replica: the number for vLLM's scheduler."""
HEADER_TIMEOUT = "x-request-timeout-s"
"""Client to gateway: seconds from now to the request's deadline."""
HEADER_DEADLINE = "x-longreach-deadline-s"
"""Gateway to replica: seconds left until the request's deadline."""
HEADER_CACHE_SALT = "x-longreach-cache-salt"
"""Gateway to replica: keeps one tenant's prefix cache from another's."""
HEADER_SESSION = "x-longreach-session"
"""Client to gateway: requests of one session go to the same replica where that costs little."""
HEADER_WANTS = "x-longreach-wants"
"""Gateway to replica: what to add to the answer, comma-separated: WANTS_OUTCOME, WANTS_IDS."""
WANTS_OUTCOME = "outcome"
WANTS_IDS = "ids"
HEADER_OUTCOME = "x-longreach-outcome"
"""Replica to gateway, answers that are not streams: the outcome (cluster/core/outcome.py)."""
COMMENT_OUTCOME = b": longreach-outcome "
"""Replica to gateway, streams: the line that carries the outcome; it and a blank line are the stream's last bytes."""
COMMENT_IDS = b": longreach-ids "
"""Replica to gateway, streams: the token ids of one output of the engine, as `choice:id,id,…`; a blank line ends
it."""
COMMENT_FULL = b": longreach-full"
"""Replica to gateway, streams: what follows ends the stream for want of context, and of nothing else."""
HEADER_RESUME = "x-longreach-resume"
"""Client to gateway: `off` lets a cut stream end. Gateway to replica: `1`, and what the client has is in the body."""
RESUME_OFF = "off"
HEADER_RESUMED = "x-longreach-resumed"
"""Replica to gateway: how a stream is gone on with, `append` or `replay`."""
HEADER_DRAWS = "x-longreach-draws"
"""Gateway to replica: hexadecimal digits drawn for this request, from which the ids in its events follow; the same for
every replica that goes on with it."""
HEADER_IDEMPOTENCY_KEY = "idempotency-key"
"""Client to gateway: requests with the same key are one (draft-ietf-httpapi-idempotency-key-header)."""
HEADER_REPLAYED = "idempotency-replayed"
"""Gateway to client: `true` where the answer was made for an earlier request, which paid for it."""
HEADER_EXPLAIN = "x-longreach-explain"
"""Client to gateway: `1` asks for the decision's full reasoning."""
HEADER_EXPLANATION = "x-longreach-explanation"
"""Gateway to client: that reasoning, as JSON."""
HEADER_PREDICTED = "x-longreach-predicted-tokens"
"""Gateway to client: prompt tokens that routing expects to be cached there, or in Redis; absent where none are."""
HEADER_PREDICTED_REDIS = "x-longreach-predicted-redis-tokens"
"""Gateway to client: those of them that it expects to come from Redis; absent where none do."""
HEADER_DECISION_US = "x-longreach-decision-us"
"""Gateway to client: microseconds of CPU the decision took."""

REFUSAL_CREDENTIAL = "credential"
"""The caller did not prove to be a gateway of this cluster."""
REFUSAL_DEADLINE = "deadline"
REFUSAL_CONTEXT = "context"
"""Prompt plus output exceed this replica's limit: a larger pool may hold them."""
REFUSAL_DRAINING = "draining"
REFUSAL_STALLED = "stalled"
REFUSAL_OVERLOAD = "overload"

INTERNAL_PREFIX = "x-longreach-"
HEADER_ENGINE_PRIORITY = "x-vllm-priority"
"""vLLM obeys it on every API that generates; the one way for those whose body has no field for a priority."""
ENGINE_CONTROL_HEADERS = frozenset({HEADER_ENGINE_PRIORITY, "x-data-parallel-rank"})
"""vLLM obeys these from anybody: one overtakes everyone else, the other picks an engine of a group."""
SERVE_CONTROL_HEADERS = frozenset({"x-request-disconnect-disabled", "x-request-timeout-seconds"})
"""Ray Serve obeys these from anybody: the first stops aborts, the second truncates a 200."""

INTERNAL_BODY_FIELDS = frozenset({
    "cache_salt", "vllm_xargs", "kv_transfer_params", "ec_transfer_params", "priority", resume.FIELD,
})  # fmt: skip
"""The last is between gateway and replica. vLLM obeys the others from anybody: one picks another tenant's cache, one
overtakes everybody, the others steer the engine. A client's `priority` is the gateway's to read, and to translate."""

_PRIORITY_FIELD = frozenset({Route.CHAT, Route.COMPLETIONS, Route.RESPONSES})
"""Generating routes whose body has the field; Anthropic's messages have none."""
_CACHE_SALT_FIELD = frozenset({
    Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES, Route.EMBEDDINGS, Route.RERANK,
})  # fmt: skip
"""Routes whose body has the field."""
_OUTPUT_ALIASES = {Route.CHAT: ("max_completion_tokens", "max_tokens")}


def requested_output_tokens(route: Route, body: dict[str, Any]) -> int | None:
    """The output length the client named, None when it named none."""
    for field in _OUTPUT_ALIASES.get(route, (route.output_field,)):
        value = body.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def has_priority_field(route: Route) -> bool:
    """Whether a priority travels in the body; other generating routes take `HEADER_ENGINE_PRIORITY`."""
    return route in _PRIORITY_FIELD


def apply_decision(
    route: Route,
    raw: bytes,
    *,
    model: str | None,
    output_tokens: int | None,
    sampling: Mapping[str, float] | None = None,
    priority: int | None = None,
    cache_salt: str | None = None,
) -> bytes:
    """The body an engine should see, as bytes; see `rewrite_body`.

    The client's own bytes come back untouched when nothing has to change.
    """
    body: dict[str, Any] = json.loads(raw)
    if rewrite_body(
        route,
        body,
        model=model,
        output_tokens=output_tokens,
        sampling=sampling,
        priority=priority,
        cache_salt=cache_salt,
    ):
        return encode_body(body)
    return raw


def rewrite_body(
    route: Route,
    body: dict[str, Any],
    *,
    model: str | None,
    output_tokens: int | None,
    sampling: Mapping[str, float] | None = None,
    priority: int | None = None,
    cache_salt: str | None = None,
) -> bool:
    """Make `body` what an engine should see: internals gone, its own name for the model, the output budget filled in.

    Args:
        route: which API the body belongs to.
        body: a decoded JSON object; changed in place.
        model: the engine's name for the model; None leaves the client's.
        output_tokens: written only where the client named no length; None leaves the body silent.
        sampling: values by field, written only where a generating request gives none.
        priority: for vLLM's scheduler, where the route's body has a field for it; lower is earlier.
        cache_salt: keeps one tenant's prefix cache from another's, where the route's body has a field for it.

    Returns:
        Whether anything changed.
    """
    changed = False
    for field in INTERNAL_BODY_FIELDS & body.keys():
        del body[field]
        changed = True
    if model is not None and body.get("model") != model:
        body["model"] = model
        changed = True
    if output_tokens is not None and route.generates and requested_output_tokens(route, body) is None:
        body[route.output_field] = output_tokens
        changed = True
    if route.generates:
        for field, value in (sampling or {}).items():
            if body.get(field) is None:
                body[field] = value
                changed = True
    if priority is not None and route in _PRIORITY_FIELD:
        body["priority"] = priority
        changed = True
    if cache_salt is not None and route in _CACHE_SALT_FIELD:
        body["cache_salt"] = cache_salt
        changed = True
    return changed


def encode_body(body: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate can be written as an escape only
        return json.dumps(body, separators=(",", ":")).encode()
