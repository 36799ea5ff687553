"""A request with everything about its sender that counts: what dispatch is asked.

What must not live here: reading headers (services/api/sender.py), what becomes of it (dispatch.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cluster.core.admission.deadline import Deadline
from cluster.core.request import InferenceRequest
from cluster.core.tenant import Identity, Priority
from services.tracing.recording import Recording


class Ask(NamedTuple):
    """One request and its sender."""

    request: InferenceRequest
    headers: Mapping[str, str]
    """The client's, by lower-case name; only a few are passed on."""
    identity: Identity
    priority: Priority
    deadline: Deadline
    arrived_s: float
    session: str | None = None
    cache_salt: str | None = None
    recording: Recording | None = None
    """For its spans; None where nobody traces."""
