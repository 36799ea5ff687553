"""Profiles: filters, weighted scorers and a picker under one name; the policies an operator can choose.

What lives here: the weights, all of them, in one table. What must not: how a score comes about (scorers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from cluster.core.routing.endpoint import Member
from cluster.core.routing.filters import FILTERS, Filter, FilterName
from cluster.core.routing.picker import BestFirst, Picker, RoundRobin
from cluster.core.routing.query import Case
from cluster.core.routing.scorers import (
    AdapterScorer,
    KvScorer,
    PrefillScorer,
    PrefixScorer,
    QueueScorer,
    Scorer,
    ScorerName,
    SessionScorer,
)

DEFAULT_RESERVE_RATIO = 0.25


class Policy(StrEnum):
    """The policies, as the configuration names them (`gateway.routing.policy`)."""

    ROUND_ROBIN = "round-robin"
    LEAST_WORK = "least-work"
    SESSION = "session"
    PREFIX = "prefix"
    BALANCED = "balanced"


# fmt: off
WEIGHTS: dict[Policy, dict[ScorerName, float]] = {
    Policy.ROUND_ROBIN: {ScorerName.TURN: 1},
    Policy.LEAST_WORK:  {ScorerName.PREFILL: 1, ScorerName.QUEUE: 1},
    Policy.SESSION:     {ScorerName.SESSION: 6, ScorerName.QUEUE: 1, ScorerName.ADAPTER: 1},
    Policy.PREFIX:      {ScorerName.PREFIX: 6, ScorerName.PREFILL: 1, ScorerName.QUEUE: 1, ScorerName.ADAPTER: 1},
    Policy.BALANCED:    {ScorerName.PREFILL: 3, ScorerName.QUEUE: 2, ScorerName.KV: 1, ScorerName.PREFIX: 1,
                         ScorerName.SESSION: 1, ScorerName.ADAPTER: 1},
}
# fmt: on
"""What each policy values. Session: its home, unless that is away or has no room; load where there is no session.
Balanced: work that remains decides, since it is what the client waits for; the queue comes
next; cache, session and adapter each tip the scales between endpoints that are otherwise near, and a queue that is
full outweighs any one of them."""


class ScoreSheet(NamedTuple):
    """The scores of all candidates of one decision, kept to be explained."""

    names: tuple[ScorerName, ...]
    columns: tuple[Sequence[float], ...]
    """For each scorer, one score for each candidate."""
    totals: Sequence[float]
    """The weighted mean for each candidate, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How endpoints are chosen."""

    policy: Policy
    filters: tuple[tuple[FilterName, Filter], ...]
    scorers: tuple[tuple[Scorer, float], ...]
    picker: Picker
    reserve_ratio: float
    """Share of a larger pool's slots and KV cache that guests never take (room.py)."""

    def score(self, case: Case, members: Sequence[Member]) -> ScoreSheet:
        """Ask every scorer that applies."""
        names: list[ScorerName] = []
        columns: list[list[float]] = []
        totals: list[float] = []
        weights = 0.0
        for scorer, weight in self.scorers:
            if scorer.applies(case):
                column = scorer.scores(case, members)
                names.append(scorer.name)
                columns.append(column)
                weights += weight
                if totals:
                    totals = [total + weight * score for total, score in zip(totals, column, strict=True)]
                else:
                    totals = [weight * score for score in column]
        totals = [min(total / weights, 1.0) for total in totals] if weights > 0 else [0.0] * len(members)
        return ScoreSheet(tuple(names), tuple(columns), totals)


def profile_of(policy: Policy | str, *, reserve_ratio: float = DEFAULT_RESERVE_RATIO) -> Profile:
    """The profile of a policy. Round-robin remembers turns, so each call begins a new round.

    Raises:
        ValueError: no policy has this name, or the ratio is not in [0, 1].
    """
    policy = Policy(policy)
    if not 0 <= reserve_ratio <= 1:
        raise ValueError(f"reserve_ratio {reserve_ratio} is not between 0 and 1")
    turns = RoundRobin()
    scorers: tuple[Scorer, ...] = (
        PrefillScorer(),
        QueueScorer(),
        KvScorer(),
        PrefixScorer(),
        SessionScorer(),
        AdapterScorer(),
        turns,
    )
    weights = WEIGHTS[policy]
    return Profile(
        policy=policy,
        filters=FILTERS,
        scorers=tuple((scorer, weights[scorer.name]) for scorer in scorers if scorer.name in weights),
        picker=turns if policy is Policy.ROUND_ROBIN else BestFirst(),
        reserve_ratio=reserve_ratio,
    )
