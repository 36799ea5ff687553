"""Filters: who cannot have the request at all.

One function each, from endpoints to those that pass. Whether there is room is asked last, in room.py, because its
answer is more than yes or no. What must not live here: preferences (scorers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

from cluster.core.routing.endpoint import Member
from cluster.core.routing.query import Case


class FilterName(StrEnum):
    """What can keep a request from an endpoint."""

    MODEL = "model"
    CONTEXT = "context"
    DRAINING = "draining"
    BREAKER = "breaker"
    TRIED = "tried"
    ROOM = "room"
    RESERVE = "reserve"
    HEALTHY = "healthy"
    REVISION = "revision"

    @property
    def words(self) -> str:
        """Why an endpoint was rejected, for people."""
        return _WORDS[self]


_WORDS = {
    FilterName.MODEL: "its pool serves another model",
    FilterName.CONTEXT: "its pool's context limit is too small",
    FilterName.DRAINING: "it is draining",
    FilterName.BREAKER: "its breaker is open",
    FilterName.TRIED: "this request was there already",
    FilterName.ROOM: "all its slots are taken",
    FilterName.RESERVE: "what is left is kept for its pool's own requests",
    FilterName.HEALTHY: "it failed a moment ago, and healthy ones will have room",
    FilterName.REVISION: "its revision has no share of the traffic, and one that has accepts",
}

Filter = Callable[[Case, Sequence[Member]], list[Member]]
"""Those of some endpoints that pass, in their order: one call for all, since a call for each would cost more."""


def are_of_model(case: Case, members: Sequence[Member]) -> list[Member]:
    """Their pools serve the model."""
    names = {pool.name for pool in case.pools}
    return [member for member in members if member.endpoint.pool in names]


def fit_context(case: Case, members: Sequence[Member]) -> list[Member]:
    """Their pools hold prompt and output."""
    return [member for member in members if member.endpoint.pool in case.fits]


def are_not_draining(_: Case, members: Sequence[Member]) -> list[Member]:
    """They take new work."""
    return [member for member in members if member.endpoint.accepts]


def have_breaker_closed(_: Case, members: Sequence[Member]) -> list[Member]:
    """Their connections work, as far as we know."""
    return [member for member in members if not member.is_breaker_open]


def are_not_tried(case: Case, members: Sequence[Member]) -> list[Member]:
    """This request was not there before."""
    tried = case.query.tried
    return [member for member in members if member.endpoint.replica_id not in tried] if tried else [*members]


POOL_FILTERS: tuple[tuple[FilterName, Filter], ...] = (
    (FilterName.MODEL, are_of_model),
    (FilterName.CONTEXT, fit_context),
)
"""What says no to a whole pool. Candidates are drawn from fitting pools alone, so these only explain the others."""
FILTERS: tuple[tuple[FilterName, Filter], ...] = (
    (FilterName.DRAINING, are_not_draining),
    (FilterName.BREAKER, have_breaker_closed),
    (FilterName.TRIED, are_not_tried),
)
"""What says no to one endpoint."""
