"""The endpoints of one pool, or of one of its revisions, kept in order of load while requests come and go.

Every change costs the same however many endpoints there are, and so does every question a decision asks. What must
not live here: rules about who may serve (filters.py, room.py), scores.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from cluster.core.routing.endpoint import Member
from cluster.core.routing.ring import Ring

FULL_SHELF = 64
"""Shelves below this one hold endpoints with room, by the share of their capacity in use, in steps of 1/64."""
LOAD_SHELVES = 2 * FULL_SHELF
"""From `FULL_SHELF` on: endpoints that are full, by how far over their capacity they are, in steps of 1/16; a lease's
queue limit keeps that to a few times the capacity, and beyond the last shelf all are equal."""
SUSPECT_SHELF = LOAD_SHELVES
ASIDE_SHELF = LOAD_SHELVES + 1
"""Draining, or behind an open breaker: never chosen."""
OVERFULL_STEPS = 16
ASSUMED_CAPACITY = 32
"""Requests at which an endpoint of unknown capacity counts as half full; vLLM's defaults run 128 to 256 at once, small
local engines 1 to 4. It orders endpoints and refuses nothing."""


def load_shelf(load: int, capacity: int) -> int:
    """The shelf of an endpoint with `load` requests: below `FULL_SHELF` exactly where it has room."""
    if capacity == 0:
        return FULL_SHELF * load // (load + ASSUMED_CAPACITY)
    if load < capacity:
        return FULL_SHELF * load // capacity
    return min(FULL_SHELF + OVERFULL_STEPS * (load - capacity) // capacity, LOAD_SHELVES - 1)


class PoolIndex:
    """The members of one pool."""

    __slots__ = ("_filled", "_shelves", "healthy_count", "members", "ring")

    def __init__(self) -> None:
        self.members: list[Member] = []
        """Everybody, in no order."""
        self.ring = Ring()
        """Those that accept. Only what every gateway knows decides, so that all agree on a session's home."""
        self.healthy_count = 0
        """Accepting, no suspect, breaker closed."""
        self._shelves: list[list[Member]] = [[] for _ in range(LOAD_SHELVES + 2)]
        self._filled = 0
        """One bit for each load shelf that holds somebody."""

    def add(self, member: Member) -> None:
        """Take in a member that is in no pool."""
        self._take_in(member)
        self._seat(member)

    def fill(self, members: Sequence[Member]) -> None:
        """Take in many that are in no pool."""
        for member in members:
            self._take_in(member)
        self.ring.fill(member.endpoint.replica_id for member in members if member.endpoint.accepts)

    def remove(self, member: Member) -> None:
        """Let a member go."""
        last = self.members.pop()
        if last is not member:
            self.members[member.place] = last
            last.place = member.place
        self._take(member)
        self.ring.discard(member.endpoint.replica_id)

    def moved(self, member: Member) -> None:
        """Its load or state changed: put it where it belongs now."""
        shelf = _shelf(member)
        if shelf != member.shelf:
            self._take(member)
            self._lay(member, shelf)

    def reported(self, member: Member) -> None:
        """It has a new report, which may have turned it to draining or back."""
        self.moved(member)
        self._seat(member)

    @property
    def has_room(self) -> bool:
        """Whether a healthy member would run a new request at once."""
        filled = self._filled
        return filled & -filled < 1 << FULL_SHELF and filled != 0

    @property
    def accepts(self) -> bool:
        """Whether anybody may be asked at all, suspects included."""
        return self.healthy_count > 0 or bool(self._shelves[SUSPECT_SHELF])

    @property
    def accepting_count(self) -> int:
        """How many may be asked at all, suspects included."""
        return self.healthy_count + len(self._shelves[SUSPECT_SHELF])

    @staticmethod
    def is_accepting(member: Member) -> bool:
        """Whether a member may be asked at all."""
        return member.shelf != ASIDE_SHELF

    def least_loaded(self, count: int, rng: random.Random) -> list[Member]:
        """Up to `count` healthy members, the least loaded first; a random stretch where more are equal."""
        found: list[Member] = []
        filled = self._filled
        while filled and len(found) < count:
            lowest = filled & -filled
            filled ^= lowest
            found += _stretch(self._shelves[lowest.bit_length() - 1], count - len(found), rng)
        return found

    def suspects(self, count: int, rng: random.Random) -> Sequence[Member]:
        """Up to `count` of those that failed a moment ago."""
        return _stretch(self._shelves[SUSPECT_SHELF], count, rng)

    def aside(self) -> Sequence[Member]:
        """Those that are never chosen now."""
        return self._shelves[ASIDE_SHELF]

    def _take_in(self, member: Member) -> None:
        member.index = self
        member.place = len(self.members)
        self.members.append(member)
        self._lay(member, _shelf(member))

    def _seat(self, member: Member) -> None:
        (self.ring.add if member.endpoint.accepts else self.ring.discard)(member.endpoint.replica_id)

    def _lay(self, member: Member, shelf: int) -> None:
        row = self._shelves[shelf]
        member.shelf, member.shelf_place = shelf, len(row)
        row.append(member)
        if shelf < LOAD_SHELVES:
            self._filled |= 1 << shelf
            self.healthy_count += 1

    def _take(self, member: Member) -> None:
        row = self._shelves[member.shelf]
        last = row.pop()
        if last is not member:
            row[member.shelf_place] = last
            last.shelf_place = member.shelf_place
        if member.shelf < LOAD_SHELVES:
            self.healthy_count -= 1
            if not row:
                self._filled ^= 1 << member.shelf


def _shelf(member: Member) -> int:
    if member.is_breaker_open or not member.endpoint.accepts:
        return ASIDE_SHELF
    return SUSPECT_SHELF if member.is_suspect else load_shelf(member.load, member.endpoint.capacity)


def _stretch(row: list[Member], count: int, rng: random.Random) -> list[Member]:
    if len(row) <= count:
        return row
    start = int(rng.random() * len(row))
    stretch = row[start : start + count]
    return stretch + row[: count - len(stretch)]
