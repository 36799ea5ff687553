"""Who sent a request, and what its headers ask for: identity, priority, deadline, session.

What must not live here: the body (decode.py), answering.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.core import wire
from cluster.core.admission.deadline import BadTimeout, Deadline, read_deadline
from cluster.core.request import InferenceRequest
from cluster.core.salt import cache_salt
from cluster.core.tenant import Identity, Priority
from services.api.gateway import Gateway
from services.api.refusals import Refusal, bad_priority, bad_timeout, denied
from services.gateway.ask import Ask
from services.gateway.auth import Denied
from services.tracing.recording import Recording

SESSION_CHARS_MAX = 128
"""A session's name is hashed; a longer one is cut, which at worst sends two sessions to one replica."""


def identify(gateway: Gateway, headers: Mapping[str, str], certificate: str | None = None) -> Identity | Refusal:
    """Who sent a request with these headers, over a connection with this name in its client certificate."""
    found = gateway.access.identify(headers.get("authorization"), headers.get("x-api-key"), certificate)
    return denied(found) if isinstance(found, Denied) else found


def ask_of(
    gateway: Gateway,
    request: InferenceRequest,
    headers: Mapping[str, str],
    identity: Identity,
    arrived_s: float,
    *,
    left_s: float | None = None,
    recording: Recording | None = None,
) -> Ask | Refusal:
    """The request with everything its sender's headers say.

    Args:
        gateway: for its limits.
        request: decoded.
        headers: the client's, by lower-case name.
        identity: who asks.
        arrived_s: when it was here.
        left_s: what its own protocol leaves it from now on.
        recording: for its spans.
    """
    limits = gateway.current.catalog.config.gateway.limits
    deadline = read_deadline(headers.get(wire.HEADER_TIMEOUT), arrived_s=arrived_s, limit_s=limits.request_s)
    if isinstance(deadline, BadTimeout):
        return bad_timeout(deadline)
    if left_s is not None and left_s < deadline.left_s(gateway.clock()):
        deadline = Deadline(at_s=gateway.clock() + left_s)
    priority = _priority(request, headers, identity)
    if isinstance(priority, Refusal):
        return priority
    session = headers.get(wire.HEADER_SESSION)
    salt = None if gateway.credential is None else cache_salt(identity, gateway.credential)
    session = None if session is None else session[:SESSION_CHARS_MAX]
    return Ask(request, headers, identity, priority, deadline, arrived_s, session, salt, recording)


def _priority(request: InferenceRequest, headers: Mapping[str, str], identity: Identity) -> Priority | Refusal:
    """The class asked for, at most the tenant's; a number in the body, vLLM's own form, is read as a class."""
    highest = identity.tenant.priority
    name = headers.get(wire.HEADER_PRIORITY)
    if name is not None:
        asked = Priority.named(name.strip().lower())
        if asked is None:
            return bad_priority(name)
    elif request.priority is None or request.priority == 0:
        return highest
    else:
        asked = Priority.LOW if request.priority > 0 else Priority.HIGH
    return max(asked, highest)
