"""What can become of a request before its answer flows, as types; REST and gRPC each map them once.

What must not live here: statuses, headers, sentences for clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.lease import PoolName
from cluster.core.request import OverCap
from cluster.core.routing import Choice, NoEndpoint, TooLong
from services.gateway.upstream import FailureKind, UpstreamAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An endpoint answers; its first bytes are here."""

    answer: UpstreamAnswer
    choice: Choice
    attempts: int
    """Endpoints tried, this one included; a larger pool after a refusal counts too."""
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModel:
    """No model, alias or adapter has this name."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overloaded:
    """Every endpoint tried has too much to do."""

    status: int
    """429 or 503, as the last endpoint said."""
    retry_after_s: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Every endpoint tried failed before its first byte."""

    kind: FailureKind
    pool: PoolName
    attempts: int


Outcome = Served | UnknownModel | OverCap | TooLong | NoEndpoint | Overloaded | Failed
