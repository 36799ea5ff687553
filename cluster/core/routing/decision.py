"""What a decision says: endpoints in order with scores and reasons, or one of three typed refusals.

Words are built when they are read, never while a request waits. What must not live here: rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.core.lease import PoolName
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed
from cluster.core.routing.endpoint import Endpoint
from cluster.core.routing.filters import FilterName
from cluster.core.routing.profile import ScoreSheet
from cluster.core.routing.query import Case, Fit, HomeState
from cluster.core.routing.room import Tier


class Rejected(NamedTuple):
    """An endpoint that was looked at and cannot have the request."""

    endpoint: Endpoint
    by: FilterName


class Choice(NamedTuple):
    """One endpoint to try, what output budget it gets there, and why."""

    endpoint: Endpoint
    fit: Fit
    tier: Tier
    case: Case
    sheet: ScoreSheet
    row: int
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
        return self.case.query.resident.get(self.endpoint.replica_id, 0)

    @property
    def fetched_tokens(self) -> int:
        """Prompt tokens that it is predicted to take from Redis, beyond those."""
        fetch = self.case.query.fetches.get(self.endpoint.replica_id)
        return 0 if fetch is None else fetch.tokens

    @property
    def prefill_tokens(self) -> int:
        """Its work until the first token, in prompt tokens to compute: what `EndpointTable.started` wants to know."""
        query = self.case.query
        fetch = query.fetches.get(self.endpoint.replica_id)
        saved = self.resident_tokens if fetch is None else fetch.saved_tokens
        return max(query.need.expected_prompt_tokens - saved, 0)

    @property
    def reason(self) -> str:
        """One ASCII sentence: the size, and why this pool."""
        need, pool = self.case.query.need, self.fit.pool
        total = need.prompt_tokens + self.output_tokens
        sure = "" if need.count is CountKind.EXACT else f"{need.count.value} "
        size = f"prompt {sure}{need.prompt_tokens} + output {self.output_tokens} = {sure}{total} tokens"
        if total > pool.context_tokens:
            why = f"{pool.name} is the largest pool and counts exactly"
        elif self.fit.is_home:
            why = self._why_home
        else:
            home = f"{next(iter(self.case.fits))} {_WHY_SPILLED[self.case.home]}"
            why = f"{home}, {pool.name} holds them too"
        return f"{size}; {why} (limit {pool.context_tokens}){self._revision_reason}"

    @property
    def _why_home(self) -> str:
        pool = self.fit.pool
        smaller = [fit.pool for fit in self.case.fits.values() if fit.pool.context_tokens < pool.context_tokens]
        if smaller:
            return f"{smaller[0].name} prefers up to {smaller[0].prefers_tokens}, {pool.name} is the next larger pool"
        return f"{pool.name} is the smallest pool that holds them"

    @property
    def _revision_reason(self) -> str:
        split, pool = self.case.split, self.fit.pool
        draw = None if split is None else split.draws.get(pool.name)
        if draw is None:
            return ""
        revision = self.endpoint.revision or "without a name"
        if draw.drawn is None:
            return f"; revision {revision}, since none with a share of the traffic accepts"
        if self.endpoint.revision != draw.drawn:
            return f"; revision {revision}, since {draw.drawn} was drawn and was busy or failed"
        weights = {share.revision: share.weight for share in pool.shares}
        return f"; revision {revision} by its share of {weights[draw.drawn]:g} in {sum(weights.values()):g}"


_WHY_SPILLED = {
    HomeState.FREE: "was busy or failed",
    HomeState.SATURATED: "is full",
    HomeState.DEAD: "has no healthy replica",
}


class Decision:
    """Endpoints in the order to try them; never empty.

    Nearly every request needs the first alone, so only whom it competes with is weighed while a request waits. The
    others are weighed when somebody first asks for them, by the load they have then.
    """

    __slots__ = ("_rest", "_whole", "first")

    def __init__(self, first: Choice, rest: Callable[[], Whole]) -> None:
        self.first = first
        self._rest = rest
        self._whole: Whole | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Everybody who may have the request, `first` first."""
        return self.complete().choices

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Who was looked at and may not."""
        return self.complete().rejected

    def complete(self) -> Whole:
        """Weigh everybody now, unless that was done."""
        if self._whole is None:
            self._whole = self._rest()
        return self._whole


class Whole(NamedTuple):
    """A decision to its last endpoint."""

    choices: tuple[Choice, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """No pool of the model is large enough, whoever is alive."""

    need: ContextNeed
    largest_context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEndpoint:
    """Pools would fit, but none has an endpoint that accepts."""

    pools: tuple[PoolName, ...]
    """Every fitting pool, in the order to try them."""
    rejected: tuple[Rejected, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturated:
    """Endpoints accept, but none may take this request now: it is worth waiting for one that finishes something."""

    pools: tuple[PoolName, ...]
    """The fitting pools with an endpoint that accepts, in the order to try them."""
    rejected: tuple[Rejected, ...] = field(default=(), compare=False)


Outcome = Decision | TooLong | NoEndpoint | Saturated
