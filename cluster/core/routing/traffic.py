"""Canary: how the requests of a pool are divided among the revisions of its replicas.

A request draws one revision: by weight, from its session's number or else from the random source. Each revision turns
that number into a score of its own and the highest wins (weighted rendezvous hashing, Thaler and Ravishankar 1998;
`-weight / ln u`, Efraimidis and Spirakis 2006). So a session stays where it is, all gateways agree on it, and a weight
that grows takes sessions over and gives none away. What must not live here: who is healthy or full (index.py), replicas
within a revision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from cluster.core.routing.endpoint import Member
from cluster.core.routing.index import PoolIndex
from cluster.core.routing.ring import session_hash

_WORD = 2**64 - 1
_UNIT = 2.0**-53


class Share(NamedTuple):
    """A revision's part of its pool's requests."""

    revision: str
    weight: float
    """What counts is its ratio to the others'; 0 is out of use."""
    seed: int
    """64 bits that differ from revision to revision."""


class Draw(NamedTuple):
    """Which revision of one pool a request got, kept to be explained."""

    drawn: str | None
    """By weight; None where no revision with a share has anybody who accepts."""
    used: str
    """Another one only where the drawn one has no room or nobody healthy."""


class Divided(NamedTuple):
    """The revisions of one pool, as one request sees them."""

    draw: Draw
    first: PoolIndex
    """Whose replicas should serve it."""
    spares: tuple[PoolIndex, ...]
    """Whose replicas may, where those cannot."""
    withheld: tuple[PoolIndex, ...]
    """Those out of use while any with a share accepts, and those not named while any with a share has room."""


def shares_of(traffic: Mapping[str, float]) -> tuple[Share, ...]:
    """All revisions that are named: weight 0 is a decision, not the same as a revision nobody knew of."""
    return tuple(Share(name, weight, _seed(name)) for name, weight in traffic.items())


def in_order(number: int, shares: Sequence[Share]) -> list[str]:
    """Revisions as a request tries them: the first comes first with the probability of its weight.

    Args:
        number: 64 bits; the same number gives the same order.
        shares: those of weight 0 are left out.
    """
    scores = [(share.weight / -log(_unit(number ^ share.seed)), share.revision) for share in shares if share.weight]
    scores.sort(reverse=True)
    return [revision for _, revision in scores]


def divide(number: int, shares: Sequence[Share], lanes: Mapping[str, PoolIndex], tried: Sequence[Member]) -> Divided:
    """Draw a revision.

    Args:
        number: 64 bits, of the request or its session.
        shares: who gets requests, at least one.
        lanes: the pool's members by revision, at least one.
        tried: members that have had their chance with this request.
    """
    named = [revision for revision in in_order(number, shares) if revision in lanes]
    out_of_use = [share.revision for share in shares if not share.weight and share.revision in lanes]
    unnamed = [revision for revision in lanes if revision not in named and revision not in out_of_use]
    accepting = [revision for revision in named if lanes[revision].accepts]
    if not accepting:
        order = [*_equally(number, unnamed), *_equally(number, out_of_use)] or named
        used = _usable([revision for revision in order if lanes[revision].accepts] or order, lanes)
        return Divided(Draw(None, used), lanes[used], _of(lanes, [name for name in lanes if name != used]), ())
    # Whoever has a share was tried already: better a revision without one than no answer.
    if tried and _are_spent([lanes[revision] for revision in accepting], tried):
        usable, withheld = [*named, *unnamed, *out_of_use], list[str]()
        used = _usable(accepting, lanes)
    elif any(lanes[revision].has_room for revision in accepting):
        usable, withheld = named, [*unnamed, *out_of_use]
        used = _usable(accepting, lanes)
    else:
        # A revision that the file does not name yet, in the minutes of an upgrade, must not idle while others are full.
        usable, withheld = [*named, *unnamed], out_of_use
        used = _usable([*accepting, *_equally(number, unnamed)], lanes)
    spares = [revision for revision in usable if revision != used]
    return Divided(Draw(accepting[0], used), lanes[used], _of(lanes, spares), _of(lanes, withheld))


def _equally(number: int, revisions: Sequence[str]) -> list[str]:
    return in_order(number, [Share(revision, 1.0, _seed(revision)) for revision in revisions])


def _usable(revisions: Sequence[str], lanes: Mapping[str, PoolIndex]) -> str:
    """The first that has room, else the first with somebody healthy, else the first."""
    for revision in revisions:
        if lanes[revision].has_room:
            return revision
    return next((revision for revision in revisions if lanes[revision].healthy_count), revisions[0])


def _are_spent(lanes: Sequence[PoolIndex], tried: Sequence[Member]) -> bool:
    return sum(lane.accepting_count for lane in lanes) <= sum(
        member.index in lanes and member.index.is_accepting(member) for member in tried
    )


def _of(lanes: Mapping[str, PoolIndex], revisions: Sequence[str]) -> tuple[PoolIndex, ...]:
    return tuple(lanes[revision] for revision in revisions)


def _seed(revision: str) -> int:
    return session_hash("revision", revision)


def _unit(number: int) -> float:
    """A number in (0, 1), every bit of `number` mixed in (the finalizer of SplitMix64, Steele and others 2014)."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _WORD
    return ((number ^ number >> 31) >> 12) * 2.0**-52 + _UNIT
