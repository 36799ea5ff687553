"""Filters: who cannot have the request at all.

One function each, true for those that pass. Whether there is room is asked last, in room.py, because its answer is
more than yes or no. What must not live here: preferences (scorers.py).
"""

from __future__ import annotations

from collections.abc import Callable
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
}

Filter = Callable[[Case, Member], bool]


def is_of_model(case: Case, member: Member) -> bool:
    """Its pool serves the model."""
    return member.endpoint.pool in case.pools


def fits_context(case: Case, member: Member) -> bool:
    """Its pool holds prompt and output."""
    return member.endpoint.pool in case.fits


def is_not_draining(_: Case, member: Member) -> bool:
    """It takes new work."""
    return member.endpoint.accepts


def is_breaker_closed(_: Case, member: Member) -> bool:
    """Its connections work, as far as we know."""
    return not member.is_breaker_open


def is_not_tried(case: Case, member: Member) -> bool:
    """This request was not there before."""
    return member.endpoint.replica_id not in case.query.tried


FILTERS: tuple[tuple[FilterName, Filter], ...] = (
    (FilterName.MODEL, is_of_model),
    (FilterName.CONTEXT, fits_context),
    (FilterName.DRAINING, is_not_draining),
    (FilterName.BREAKER, is_breaker_closed),
    (FilterName.TRIED, is_not_tried),
)
