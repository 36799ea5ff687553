"""What can become of a request before its answer flows, as types; REST and gRPC each map them once.

What must not live here: statuses, headers, sentences for clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.lease import PoolName
from cluster.core.prompt import PromptTokens
from cluster.core.quota import Granted, LimitKind
from cluster.core.request import OverCap
from cluster.core.routing import Choice, Decision, NoEndpoint, TooLong
from cluster.core.tenant import Tenant
from services.gateway.resuming import ResumableAnswer
from services.gateway.upstream import FailureKind, UpstreamAnswer


@dataclass(slots=True, kw_only=True)
class Served:
    """An endpoint answers; its first bytes are here."""

    answer: UpstreamAnswer | ResumableAnswer
    choice: Choice
    """Of whoever answers now."""
    decision: Decision
    """What `choice` came from."""
    attempts: int
    """Endpoints tried, this one included; a larger pool after a refusal counts too."""
    prompt_tokens: int
    decision_s: float
    """CPU time that deciding took, all attempts together."""
    waited_s: float
    """In the gateway's own queue."""
    tenant: Tenant
    model: str
    """The engine's name for it: a model's id or an adapter's name, whatever alias the client used."""
    model_id: str
    prompt: PromptTokens | None
    """The estimate that the engine's own count teaches; None where there is nothing to learn."""
    is_static: bool
    """A foreign engine: it tells no outcome beside its answer."""
    resumes: int = 0
    """How often another replica went on with it."""
    granted: Granted | None = None
    """What was charged to a tenant with limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownModel:
    """No model, alias or adapter has this name."""

    name: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverQuota:
    """The tenant has used up its limit for now."""

    limit: LimitKind
    retry_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Every replica that holds the request is at capacity, and it may not wait (any longer) for one."""

    retry_after_s: int
    waited_s: float
    is_late: bool
    """Its deadline has passed, or would before a place is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted:
    """The pool has no replica yet, and one will not be there in time."""

    pool: PoolName
    retry_after_s: int
    waited_s: float


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


Outcome = Served | UnknownModel | OverCap | OverQuota | TooLong | NoEndpoint | Busy | NotStarted | Overloaded | Failed
