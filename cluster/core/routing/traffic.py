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
    """Above 0; what counts is its ratio to the others'."""
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
    """Those without a share, while any that has one accepts."""


def shares_of(traffic: Mapping[str, float]) -> tuple[Share, ...]:
    """The revisions that get requests, by weight; those of weight 0 are left out, like those that are not named."""
    return tuple(Share(name, weight, _seed(name)) for name, weight in traffic.items() if weight > 0)


def in_order(number: int, shares: Sequence[Share]) -> list[str]:
    """Revisions as a request tries them: the first comes first with the probability of its weight.

    Args:
        number: 64 bits; the same number gives the same order.
        shares: at least one.
    """
    if len(shares) == 1:
        return [shares[0].revision]
    scores = [(share.weight / -log(_unit(number ^ share.seed)), share.revision) for share in shares]
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
    unnamed = [revision for revision in lanes if revision not in named]
    accepting = [revision for revision in named if lanes[revision].accepts]
    if accepting:
        used = _usable(accepting, lanes)
        spares = [revision for revision in named if revision != used]
        draw = Draw(accepting[0], used)
        # Whoever has a share was tried already: better a revision without one than no answer.
        is_spent = bool(tried) and _are_spent([lanes[revision] for revision in accepting], tried)
        if not is_spent:
            return Divided(draw, lanes[used], _of(lanes, spares), _of(lanes, unnamed))
        return Divided(draw, lanes[used], _of(lanes, [*spares, *unnamed]), ())
    equal = [Share(revision, 1.0, _seed(revision)) for revision in unnamed]
    order = in_order(number, equal) if equal else named
    used = _usable([revision for revision in order if lanes[revision].accepts] or order, lanes)
    return Divided(Draw(None, used), lanes[used], _of(lanes, [name for name in lanes if name != used]), ())


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
