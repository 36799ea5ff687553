"""Pickers: from scored candidates to an order.

What lives here: best first, and round-robin with the turns it remembers. What must not: scores' meaning, weights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cluster.core.lease import ReplicaId
from cluster.core.routing.endpoint import Member
from cluster.core.routing.query import Case, Fit
from cluster.core.routing.room import Tier
from cluster.core.routing.scorers import ScorerName

TURNS_MAX = 8192
"""Endpoints whose last turn is remembered: several times the largest cluster; the longest unused is forgotten, which
only means that it is next."""


class Candidate(NamedTuple):
    """An endpoint that passed every filter. A tuple, since up to 32 are made for a decision."""

    member: Member
    fit: Fit
    tier: Tier


class Picker(Protocol):
    """Puts candidates in the order in which to try them."""

    def order(self, candidates: Sequence[Candidate], scores: Sequence[float], rng: random.Random) -> list[int]:
        """Positions in `candidates`, first choice first."""
        ...

    def took(self, member: Member) -> None:
        """A decision's first choice is `member`."""
        ...


class BestFirst:
    """Tier, then the pool's size, then score; equals in random order."""

    def order(self, candidates: Sequence[Candidate], scores: Sequence[float], rng: random.Random) -> list[int]:
        """As `Picker` says."""
        shuffle = rng.random
        keys = [
            (candidate.tier, candidate.fit.rank, -score, shuffle(), position)
            for position, (candidate, score) in enumerate(zip(candidates, scores, strict=True))
        ]
        keys.sort()
        return [key[4] for key in keys]

    def took(self, member: Member) -> None:
        """As `Picker` says: nothing is remembered."""


class RoundRobin(BestFirst):
    """Whose turn it is: a scorer that favours whoever was first choice longest ago, and the picker that takes note."""

    name = ScorerName.TURN

    def __init__(self) -> None:
        self._turn = 0
        self._last: dict[ReplicaId, int] = {}

    def applies(self, _: Case) -> bool:
        """As `Scorer` says."""
        return True

    def scores(self, _: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        last, now = self._last, self._turn + 1
        return [1.0 - last.get(member.endpoint.replica_id, 0) / now for member in members]

    def took(self, member: Member) -> None:
        """As `Picker` says."""
        first = member.endpoint.replica_id
        self._turn += 1
        self._last.pop(first, None)
        self._last[first] = self._turn
        if len(self._last) > TURNS_MAX:
            del self._last[next(iter(self._last))]
