"""Spill and reserve: who has room for a request, and how much of a larger pool short requests may take.

The rule, in words. A request belongs to the smallest pool that holds it, its home, unless that pool prefers shorter
ones: then to the next larger one. At home it may use every slot. In another pool it is a guest: it gets a slot only
while nobody waits there, and only so long as the endpoint, with the guest, keeps `reserve_ratio` of its slots and of
its KV cache free. Guests thus never hold more than the rest, so the pool's own requests find a slot at once until they
themselves fill the reserve. A guest never waits in another pool. It is the same when the home is dead: guests get no
part of the reserve, save that an endpoint too small to be divided gives them its only slot. A ratio of 1 lets no guest
in at all. What must not live here: order, scores.
"""

from __future__ import annotations

from enum import IntEnum
from math import floor

from cluster.core.routing.endpoint import Member
from cluster.core.routing.filters import FilterName
from cluster.core.routing.query import Case, Fit, HomeState

RATIO_SLACK = 1e-9
"""0.9 * 10 slots must be 9 and not 8: ratios are decimal in the configuration and binary here."""


class Tier(IntEnum):
    """In what standing an endpoint could take the request; lower is preferred."""

    HOME = 0
    """The smallest fitting pool, at once."""
    SPILL = 1
    """A larger pool, at once, beside its reserve."""
    QUEUE = 2
    """The smallest fitting pool, waiting inside the engine."""
    SUSPECT = 3
    """It failed a moment ago, or its probe fails: when nobody else is left."""


def guest_slots(capacity: int, reserve_ratio: float, home: HomeState) -> int:
    """The slots of an endpoint that may be in use, guests included, after a guest was let in.

    Args:
        capacity: all its slots, 1 or more.
        reserve_ratio: the share kept for the pool's own requests, 0 to 1.
        home: how the guests' own pool stands.
    """
    slots = floor(capacity * (1 - reserve_ratio) + RATIO_SLACK)
    if slots == 0 and home is HomeState.DEAD and reserve_ratio < 1:
        return 1
    return slots


def standing(case: Case, fit: Fit, member: Member) -> Tier | FilterName:
    """The tier in which `member` could take the request, or the filter that keeps it from it."""
    endpoint = member.endpoint
    if fit.rank == 0:
        if member.has_room:
            tier = Tier.HOME
        elif case.query.may_queue and member.load < endpoint.capacity + endpoint.queue_limit:
            tier = Tier.QUEUE
        else:
            return FilterName.ROOM
    elif _takes_guest(case, member):
        tier = Tier.SPILL
    else:
        return FilterName.RESERVE
    return Tier.SUSPECT if member.is_suspect else tier


def _takes_guest(case: Case, member: Member) -> bool:
    endpoint, reserve_ratio = member.endpoint, case.reserve_ratio
    if endpoint.waiting > 0 or endpoint.kv_use_ratio > 1 - reserve_ratio + RATIO_SLACK:
        return False
    if endpoint.capacity == 0:  # Its slots are unknown, so none can be kept; what it reports still counts.
        return reserve_ratio < 1
    return member.load + 1 <= guest_slots(endpoint.capacity, reserve_ratio, case.home)
