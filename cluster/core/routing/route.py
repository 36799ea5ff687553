"""The decision, from a request to an ordered list of endpoints: the story, top to bottom.

Pure: no I/O, no clock, no randomness that is not passed in. What must not live here: any single rule; pools.py,
filters.py, room.py, scorers.py and picker.py have one kind each.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence

from cluster.core.routing.candidates import Indexes, draw, home_state, session_homes, unseen
from cluster.core.routing.decision import Choice, Decision, NoEndpoint, Rejected, Saturated, TooLong
from cluster.core.routing.endpoint import Member
from cluster.core.routing.filters import Filter, FilterName
from cluster.core.routing.picker import Candidate
from cluster.core.routing.pools import Pool, fitting_pools
from cluster.core.routing.profile import Profile, ScoreSheet
from cluster.core.routing.query import Case, Fit, HomeState, Query
from cluster.core.routing.room import Tier, standing
from cluster.core.routing.table import EndpointTable

Filters = Sequence[tuple[FilterName, Filter]]
SOLE_CANDIDATE = ScoreSheet(names=(), columns=(), totals=(1.0,))


def route(
    query: Query, pools: Collection[Pool], table: EndpointTable, profile: Profile, rng: random.Random
) -> Decision | TooLong | NoEndpoint | Saturated:
    """Order the endpoints that may serve a request.

    Args:
        query: the request.
        pools: the pools of the requested model.
        table: every known endpoint, of any pool.
        profile: filters, weighted scorers, picker, reserve.
        rng: draws a few candidates and breaks ties.
    """
    case, indexes = _open(query, pools, table, profile)
    if not case.fits:
        return TooLong(need=query.need, largest_context_tokens=max((pool.context_tokens for pool in pools), default=0))
    drawn = draw(case, indexes, table, rng)
    candidates, rejected = _sift(case, drawn, profile.filters)
    if query.explains:
        rejected += _sift(case, unseen(case, drawn, table), profile.filters)[1]
    if not candidates:
        return _nobody(case, indexes, rejected)
    # Where there is nothing to weigh, weighing only costs time.
    if len(candidates) == 1 and not query.explains:
        sheet = SOLE_CANDIDATE
    else:
        sheet = profile.score(case, [candidate.member for candidate in candidates])
    order = profile.picker.order(candidates, sheet.totals, rng)
    if candidates[order[0]].tier is Tier.SUSPECT and case.home is HomeState.SATURATED:
        # Waiting for a healthy endpoint of its own pool is better than betting on one that just failed.
        rejected += [Rejected(endpoint=candidate.member.endpoint, by=FilterName.HEALTHY) for candidate in candidates]
        return _nobody(case, indexes, rejected)
    choices = [Choice((c := candidates[row]).member.endpoint, c.fit, c.tier, case, sheet, row) for row in order]
    return Decision(choices=tuple(choices), rejected=tuple(rejected))


def _open(query: Query, pools: Collection[Pool], table: EndpointTable, profile: Profile) -> tuple[Case, Indexes]:
    """Settle what holds for all candidates: which pools fit, and how the smallest of them stands."""
    fits: list[Fit] = []
    for pool, output_tokens in fitting_pools(query.need, pools):
        is_larger = bool(fits) and pool.context_tokens > fits[-1].pool.context_tokens
        fits.append(Fit(pool=pool, output_tokens=output_tokens, rank=fits[-1].rank + is_larger if fits else 0))
    indexes = [(fit, index) for fit in fits if (index := table.pool(fit.pool.name)) is not None]
    case = Case(
        query=query,
        pools={pool.name: pool for pool in pools},
        fits={fit.pool.name: fit for fit in fits},
        home=home_state(indexes),
        session_homes=session_homes(query, indexes, table),
        reserve_ratio=profile.reserve_ratio,
    )
    return case, indexes


def _sift(case: Case, members: Iterable[Member], filters: Filters) -> tuple[list[Candidate], list[Rejected]]:
    """Who may have the request and in what standing, and who may not and why."""
    candidates: list[Candidate] = []
    rejected: list[Rejected] = []
    for member in members:
        for name, passes in filters:
            if not passes(case, member):
                rejected.append(Rejected(endpoint=member.endpoint, by=name))
                break
        else:
            fit = case.fits[member.endpoint.pool]
            tier = standing(case, fit, member)
            if isinstance(tier, Tier):
                candidates.append(Candidate(member, fit, tier))
            else:
                rejected.append(Rejected(endpoint=member.endpoint, by=tier))
    return candidates, rejected


def _nobody(case: Case, indexes: Indexes, rejected: Sequence[Rejected]) -> Saturated | NoEndpoint:
    accepting = tuple(fit.pool.name for fit, index in indexes if index.accepts)
    if accepting:
        return Saturated(pools=accepting, rejected=tuple(rejected))
    return NoEndpoint(pools=tuple(case.fits), rejected=tuple(rejected))
