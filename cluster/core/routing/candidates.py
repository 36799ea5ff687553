"""Whom a decision looks at: everybody in a small cluster, a telling few in a large one.

What lives here: the draw, at most `CANDIDATES_MAX` endpoints however many there are, in two parts: those that should
serve (`near`), which is all that most requests need, and those to fall back on (`far`). What must not: judging them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from cluster.core.routing.endpoint import Member
from cluster.core.routing.index import PoolIndex
from cluster.core.routing.query import Case, Fit, HomeState, Query
from cluster.core.routing.table import EndpointTable

CANDIDATES_MAX = 32
"""Scored for one decision. Plain Python costs 3 to 7 µs for each, and a better choice than the best of 32 is rare."""
PREFIX_HOLDERS_MAX = 8
"""Of those that hold the longest prefixes: a common system prompt is on every endpoint, and a few of them do."""
PREFIX_SCAN_MAX = 64
"""Holders looked at for those: the longest prefixes may all be with another revision, or in another pool."""
OTHER_POOLS_MAX = 2
OTHER_POOL_CANDIDATES = 2
"""From pools that are not meant to serve this request: enough for a second try when the first choice fails."""
SUSPECTS_MAX = 2
RANDOM_MAX = 4
"""Gateways that see the same reports would otherwise all run to the same few least loaded endpoints."""
RING_POOLS_MAX = 2
"""Smallest fitting pools (of one limit) in which a session has a home; there is one, nearly always."""
LEAST_LOADED_MIN = CANDIDATES_MAX - (
    RING_POOLS_MAX + PREFIX_HOLDERS_MAX + OTHER_POOLS_MAX * OTHER_POOL_CANDIDATES + SUSPECTS_MAX + RANDOM_MAX
)
"""What is left for the least loaded: more than a request has tries, so an endpoint with room is never missed."""
NEAR_MAX = CANDIDATES_MAX - OTHER_POOLS_MAX * OTHER_POOL_CANDIDATES - SUSPECTS_MAX
"""Of the pools that should serve; the rest is for those to fall back on."""
ASIDE_SHOWN_MAX = 64
"""Endpoints named in an explanation although nobody would have looked at them."""

Indexes = Sequence[tuple[Fit, PoolIndex]]


def home_state(indexes: Indexes) -> HomeState:
    """How the smallest fitting pools stand."""
    state = HomeState.DEAD
    for fit, index in indexes:
        if fit.rank == 0:
            if index.has_room:
                return HomeState.FREE
            if index.healthy_count:
                state = HomeState.SATURATED
    return state


def session_homes(query: Query, indexes: Indexes, table: EndpointTable) -> tuple[Member, ...]:
    """Whom the session belongs to, passing over endpoints that this gateway cannot use now."""
    session = query.session
    if session is None:
        return ()
    homes = []
    for fit, index in indexes[:RING_POOLS_MAX]:
        if fit.rank == 0:
            on_ring = map(table.get, index.ring.walk(session))
            home = next((m for m in on_ring if m and not m.is_suspect and not m.is_breaker_open), None)
            if home is not None:
                homes.append(home)
    return tuple(homes)


def near(case: Case, indexes: Indexes, table: EndpointTable, rng: random.Random) -> list[Member]:
    """Endpoints of the pools that should serve the request as things stand; with `far`, at most `CANDIDATES_MAX`."""
    focus, _ = _focus(case, indexes)
    if _are_few(_everywhere(case, indexes)):
        return focus[0].members if len(focus) == 1 else [member for index in focus for member in index.members]
    picked = dict.fromkeys(member for member in case.session_homes if member.index in focus)
    picked.update(dict.fromkeys(_prefix_holders(case, table, focus)))
    for _ in range(RANDOM_MAX):
        members = focus[int(rng.random() * len(focus))].members
        picked[members[int(rng.random() * len(members))]] = None
    for position, index in enumerate(focus):
        share = (NEAR_MAX - len(picked)) // (len(focus) - position)
        picked.update(dict.fromkeys(index.least_loaded(share, rng)))
    return list(islice(picked, NEAR_MAX))


def far(
    case: Case, indexes: Indexes, drawn: Sequence[Member], table: EndpointTable, rng: random.Random
) -> list[Member]:
    """Endpoints to fall back on, none of those `near` has drawn."""
    everywhere = _everywhere(case, indexes)
    if _are_few(everywhere):
        known = set(drawn)
        return [member for _, index in everywhere for member in index.members if member not in known]
    _, others = _focus(case, indexes)
    others = others[:OTHER_POOLS_MAX]
    split = case.split
    if split is not None:
        others = [*(index for _, index in split.spares), *others]
    picked = dict.fromkeys(case.session_homes)
    picked.update(dict.fromkeys(_prefix_holders(case, table, [index for _, index in everywhere])))
    for index in others:
        picked.update(dict.fromkeys(index.least_loaded(OTHER_POOL_CANDIDATES, rng)))
    picked.update(dict.fromkeys(_suspects(case, everywhere, rng)))
    for member in drawn:
        picked.pop(member, None)
    if split is not None and split.withheld:
        picked = {member: None for member in picked if member.index not in split.withheld}
    return list(islice(picked, CANDIDATES_MAX - len(drawn)))


def _everywhere(case: Case, indexes: Indexes) -> Indexes:
    return indexes if case.split is None else [*indexes, *case.split.spares]


def _are_few(indexes: Indexes) -> bool:
    return sum([len(index.members) for _, index in indexes]) <= CANDIDATES_MAX


def unseen(case: Case, drawn: Sequence[Member], table: EndpointTable) -> list[Member]:
    """Further endpoints that an explanation should name: those that are aside, and those of other pools."""
    fitting = chain.from_iterable(table.indexes(name) for name in case.fits)
    others = chain.from_iterable(table.indexes(name) for name in table.pools() if name not in case.fits)
    extra = chain(
        chain.from_iterable(index.aside() for index in fitting),
        chain.from_iterable(index.members for index in others),
    )
    known = set(drawn)
    return list(islice((member for member in extra if member not in known), ASIDE_SHOWN_MAX))


def withheld(case: Case) -> list[Member]:
    """Endpoints that an explanation should name, whose revision may not have the request."""
    if case.split is None:
        return []
    members = chain.from_iterable(index.members for index in case.split.withheld)
    return list(islice((member for member in members if member.index.is_accepting(member)), ASIDE_SHOWN_MAX))


def _prefix_holders(case: Case, table: EndpointTable, among: Sequence[PoolIndex]) -> Iterator[Member]:
    """Those of `among` that hold the longest prefixes."""
    scanned = map(table.get, islice(case.query.resident, PREFIX_SCAN_MAX))
    return islice((member for member in scanned if member is not None and member.index in among), PREFIX_HOLDERS_MAX)


def _focus(case: Case, indexes: Indexes) -> tuple[list[PoolIndex], list[PoolIndex]]:
    """The pools that should serve the request as things stand, and the others."""
    homes = [index for fit, index in indexes if fit.rank == 0]
    larger = [index for fit, index in indexes if fit.rank > 0]
    if case.home is HomeState.FREE:
        open_homes = [index for index in homes if index.has_room]
        return open_homes, [index for index in (*homes, *larger) if index not in open_homes]
    open_larger = [index for index in larger if index.has_room]
    if not open_larger:
        return homes or larger, larger if homes else []
    return open_larger, homes


def _suspects(case: Case, indexes: Indexes, rng: random.Random) -> Iterator[Member]:
    # Where the smallest pool has nobody healthy, its suspects are all it has.
    most = SUSPECTS_MAX if case.home is not HomeState.DEAD else LEAST_LOADED_MIN
    found = chain.from_iterable(index.suspects(most, rng) for _, index in indexes)
    return islice(found, most)
