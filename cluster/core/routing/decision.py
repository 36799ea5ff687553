"""What a decision says: endpoints in order with scores and reasons, or one of three typed refusals.

Words are built when they are read, never while a request waits. What must not live here: rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.lease import PoolName
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing.endpoint import Endpoint
from cluster.core.routing.filters import FilterName
from cluster.core.routing.profile import ScoreSheet
from cluster.core.routing.query import Case, Fit, HomeState
from cluster.core.routing.room import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An endpoint that was looked at and cannot have the request."""

    endpoint: Endpoint
    by: FilterName


@dataclass(frozen=True, slots=True)
class Choice:
    """One endpoint to try, what output budget it gets there, and why."""

    endpoint: Endpoint
    fit: Fit
    tier: Tier
    case: Case = field(repr=False)
    sheet: ScoreSheet = field(repr=False)
    row: int = field(repr=False)
    """Its place on the sheet."""

    @property
    def output_tokens(self) -> int:
        """The output it may generate there."""
        return self.fit.output_tokens

    @property
    def score(self) -> float:
        """Weighted mean of `scores`, in [0, 1]."""
        return self.sheet.totals[self.row]

    @property
    def scores(self) -> dict[str, float]:
        """What each scorer that applied gave it, by the scorer's name, in [0, 1]."""
        return {name.value: column[self.row] for name, column in zip(self.sheet.names, self.sheet.columns, strict=True)}

    @property
    def resident_tokens(self) -> int:
        """Prompt tokens that it is predicted to find in its cache."""
        known = self.case.query.resident.get(self.endpoint.replica_id, 0)
        return min(known, self.case.query.need.expected_prompt_tokens)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that it is predicted to compute: what `EndpointTable.started` wants to know."""
        return self.case.query.need.expected_prompt_tokens - self.resident_tokens

    @property
    def reason(self) -> str:
        """One ASCII sentence: the size, and why this pool."""
        need, pool = self.case.query.need, self.fit.pool
        total = need.prompt_tokens + self.output_tokens
        sure = "" if need.count is CountKind.EXACT else f"{need.count.value} "
        size = f"prompt {sure}{need.prompt_tokens} + output {self.output_tokens} = {sure}{total} tokens"
        if total > pool.context_tokens:
            return f"{size}; {pool.name} is the largest pool and counts exactly (limit {pool.context_tokens})"
        if self.fit.is_home:
            return f"{size}; {pool.name} is the smallest pool that holds them (limit {pool.context_tokens})"
        why = f"{next(iter(self.case.fits))} {_WHY_SPILLED[self.case.home]}"
        return f"{size}; {why}, {pool.name} holds them too (limit {pool.context_tokens})"


_WHY_SPILLED = {
    HomeState.FREE: "was busy or failed",
    HomeState.SATURATED: "is full",
    HomeState.DEAD: "has no healthy replica",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Endpoints in the order to try them; never empty."""

    choices: tuple[Choice, ...]
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """No pool of the model is large enough, whoever is alive."""

    need: ContextNeed
    largest_context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEndpoint:
    """Pools would fit, but none has an endpoint that accepts."""

    pools: tuple[PoolName, ...]
    """Every fitting pool, smallest first."""
    rejected: tuple[Rejected, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturated:
    """Endpoints accept, but none may take this request now: it is worth waiting for one that finishes something."""

    pools: tuple[PoolName, ...]
    """The fitting pools with an endpoint that accepts, smallest first."""
    rejected: tuple[Rejected, ...] = field(default=(), compare=False)


Outcome = Decision | TooLong | NoEndpoint | Saturated
