"""The decision, from a request to an ordered list of endpoints: the story, top to bottom.

Pure: no I/O, no clock, no randomness that is not passed in. What must not live here: any single rule; pools.py,
filters.py, room.py, scorers.py and picker.py have one kind each.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from cluster.core.routing.candidates import Indexes, far, home_state, near, session_homes, unseen, withheld
from cluster.core.routing.decision import Choice, Decision, NoEndpoint, Rejected, Saturated, TooLong, Whole
from cluster.core.routing.endpoint import Member
from cluster.core.routing.filters import POOL_FILTERS, Filter, FilterName
from cluster.core.routing.index import PoolIndex
from cluster.core.routing.picker import Candidate
from cluster.core.routing.pools import Pool, fitting_pools
from cluster.core.routing.profile import Profile, ScoreSheet
from cluster.core.routing.query import Case, Fit, HomeState, Query, Split
from cluster.core.routing.ring import SESSION_BITS
from cluster.core.routing.room import Tier, standing
from cluster.core.routing.table import EndpointTable
from cluster.core.routing.traffic import Divided, divide

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
        rng: draws a revision where requests are divided, draws a few candidates, breaks ties.
    """
    case, indexes = _open(query, pools, table, profile, rng)
    if not case.fits:
        return TooLong(need=query.need, largest_context_tokens=max((pool.context_tokens for pool in pools), default=0))
    drawn = near(case, indexes, table, rng)
    candidates, rejected = _sift(case, drawn, profile.filters)
    best = [candidate for candidate in candidates if candidate.tier is Tier.HOME]
    is_all_drawn = not best
    if is_all_drawn:
        # Nobody is in the best standing there is, so whoever else there is may be in a better one.
        others = far(case, indexes, drawn, table, rng)
        drawn = [*drawn, *others]
        more, also_rejected = _sift(case, others, profile.filters)
        candidates += more
        rejected += also_rejected
        best = _best(candidates)
        # Waiting for a healthy endpoint of its own pool is better than betting on one that just failed.
        if not best or (best[0].tier is Tier.SUSPECT and case.home is HomeState.SATURATED):
            rejected += [Rejected(candidate.member.endpoint, FilterName.HEALTHY) for candidate in candidates]
            if query.explains:
                rejected += _unseen(case, drawn, table, profile.filters)
            return _nobody(case, indexes, rejected)
    heads = _ranked(case, best, profile, rng, weighs=query.explains)
    first = heads[0]
    profile.picker.took(best[first.row].member)

    def whole() -> Whole:
        rest = [candidate for candidate in candidates if candidate not in best]
        refused, seen = rejected, drawn
        if not is_all_drawn:
            others = far(case, indexes, drawn, table, rng)
            more, also_refused = _sift(case, others, profile.filters)
            rest, refused, seen = rest + more, refused + also_refused, [*seen, *others]
        if query.explains:
            refused = refused + _unseen(case, seen, table, profile.filters)
        return Whole((*heads, *_ranked(case, rest, profile, rng)), tuple(refused))

    decision = Decision(first, whole)
    if query.explains:
        decision.complete()
    return decision


def _open(
    query: Query, pools: Collection[Pool], table: EndpointTable, profile: Profile, rng: random.Random
) -> tuple[Case, Indexes]:
    """Settle what holds for all candidates: which pools fit, and how the smallest of them stands."""
    fits = {}
    indexes = []
    divided: list[tuple[Fit, Divided]] = []
    rank, size_tokens = -1, -1
    for pool, output_tokens in fitting_pools(query.need, pools):
        if pool.context_tokens != size_tokens:
            rank, size_tokens = rank + 1, pool.context_tokens
        fit = fits[pool.name] = Fit(pool, output_tokens, rank)
        index = table.pool(pool.name)
        if index is not None:
            indexes.append((fit, index))
        elif lanes := table.lanes(pool.name):
            if pool.shares:
                one = _draw(query, pool, lanes, table, rng)
                divided.append((fit, one))
                indexes.append((fit, one.first))
            else:  # The request came before the reload that divides this pool.
                indexes += [(fit, lane) for lane in lanes.values()]
    homes = () if query.session is None else session_homes(query, indexes, table)
    return Case(query, pools, fits, home_state(indexes), homes, profile.reserve_ratio, _split(divided)), indexes


def _draw(
    query: Query, pool: Pool, lanes: Mapping[str, PoolIndex], table: EndpointTable, rng: random.Random
) -> Divided:
    """Draw one of the revisions that share a pool; a session's are always the same as long as it can be had."""
    number = rng.getrandbits(SESSION_BITS) if query.session is None else query.session
    tried = [member for member in map(table.get, query.tried) if member is not None]
    return divide(number, pool.shares, lanes, tried)


def _split(divided: Sequence[tuple[Fit, Divided]]) -> Split | None:
    """What was drawn, of all pools together."""
    if not divided:
        return None
    return Split(
        draws={fit.pool.name: one.draw for fit, one in divided},
        spares=[(fit, lane) for fit, one in divided for lane in one.spares],
        withheld=[lane for _, one in divided for lane in one.withheld],
    )


def _sift(case: Case, members: Sequence[Member], filters: Filters) -> tuple[list[Candidate], list[Rejected]]:
    """Who may have the request and in what standing, and who may not and why."""
    candidates: list[Candidate] = []
    passed, rejected = _passed(case, members, filters)
    fits = case.fits
    for member in passed:
        fit = fits[member.endpoint.pool]
        tier = standing(case, fit, member)
        if isinstance(tier, Tier):
            candidates.append(Candidate(member, fit, tier))
        else:
            rejected.append(Rejected(member.endpoint, tier))
    return candidates, rejected


def _passed(case: Case, members: Sequence[Member], filters: Filters) -> tuple[Sequence[Member], list[Rejected]]:
    rejected: list[Rejected] = []
    for name, keep in filters:
        kept = keep(case, members)
        if len(kept) < len(members):
            known = set(kept)
            rejected += [Rejected(member.endpoint, name) for member in members if member not in known]
        members = kept
    return members, rejected


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those in the best standing, of the smallest pools among them."""
    if not candidates:
        return []
    best = min([(candidate.tier, candidate.fit.rank) for candidate in candidates])
    return [candidate for candidate in candidates if (candidate.tier, candidate.fit.rank) == best]


def _ranked(
    case: Case, candidates: Sequence[Candidate], profile: Profile, rng: random.Random, *, weighs: bool = True
) -> list[Choice]:
    """Choices in order; without `weighs`, one that has nobody to compete with is not weighed, which only costs time."""
    if not candidates:
        return []
    if len(candidates) == 1 and not weighs:
        (member, fit, tier) = candidates[0]
        return [Choice(member.endpoint, fit, tier, case, SOLE_CANDIDATE, 0)]
    sheet = profile.score(case, [candidate.member for candidate in candidates])
    order = profile.picker.order(candidates, sheet.totals, rng)
    return [Choice((c := candidates[row]).member.endpoint, c.fit, c.tier, case, sheet, row) for row in order]


def _unseen(case: Case, drawn: Sequence[Member], table: EndpointTable, filters: Filters) -> list[Rejected]:
    """Why those were not even drawn who were not."""
    passed, rejected = _passed(case, unseen(case, drawn, table), POOL_FILTERS)
    held = [Rejected(member.endpoint, FilterName.REVISION) for member in withheld(case)]
    return rejected + _sift(case, passed, filters)[1] + held


def _nobody(case: Case, indexes: Indexes, rejected: Sequence[Rejected]) -> Saturated | NoEndpoint:
    # A pool may be here with several revisions.
    accepting = tuple(dict.fromkeys(fit.pool.name for fit, index in indexes if index.accepts))
    if accepting:
        return Saturated(pools=accepting, rejected=tuple(rejected))
    return NoEndpoint(pools=tuple(case.fits), rejected=tuple(rejected))
