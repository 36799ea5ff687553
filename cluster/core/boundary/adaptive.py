"""The boundary that follows: small moves, only where they help, never above the limit.

Requests on the other side of a move find no prefix of theirs in the new pool, once; that is what moves cost, and why
they are few. What must not live here: what a boundary would bring (waits.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.core.autoscaling.target import ServiceLevel
from cluster.core.boundary.lengths import BANDS_PER_OCTAVE, LengthsSeen, LengthWork, band_of, edge_tokens, together
from cluster.core.boundary.waits import Split, Station, split

MOVE_MAX_BANDS = 2
"""One move changes the boundary by at most a factor of 1.4, so that queues show what it did before the next."""
MOVE_EVERY_S = 60.0
"""And that takes them about so long: several of the longest prefills of an ordinary prompt."""
LEAST_BAND = -5 * BANDS_PER_OCTAVE
"""The boundary stays above 1/32 of the limit: below, a pool would idle that somebody sized for longer requests."""
GAIN_MIN_RATIO = 0.1
"""A move must promise so much less waiting, else the noise of the last minutes would move it to and fro."""
WAIT_MIN_RATIO = 0.01
"""Where requests wait less than this part of their limits, nothing is worth moving for."""
KNOWN_REQUESTS = 200.0
"""Fewer in memory say too little about the long ones among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Up to which need the smaller pool is preferred, and why."""

    tokens: int
    limit_tokens: int
    reason: str
    """For people, in one sentence."""


class AdaptiveBoundary:
    """One pair of pools' boundary; it begins at the smaller one's limit, which is routing without one.

    Args:
        limit_tokens: the smaller pool's context limit.
        level: what is promised.
        beyond: to requests over the limit; None: the same.
    """

    def __init__(self, *, limit_tokens: int, level: ServiceLevel, beyond: ServiceLevel | None = None) -> None:
        self.work = LengthWork(limit_tokens=limit_tokens)
        """Told of every request of both pools; of several gateways each has its own part."""
        self._level = level
        self._beyond = beyond
        self._band = 0
        self._moved_s = -math.inf
        self._last: tuple[float, Boundary] | None = None

    @property
    def tokens(self) -> int:
        """Where it is."""
        return edge_tokens(self._band, self.work.limit_tokens)

    @property
    def moved_s(self) -> float:
        """When it was last moved, monotonic; minus infinity: never."""
        return self._moved_s

    def resume(self, tokens: int, moved_s: float) -> None:
        """Go on from where somebody else has moved it, or from before a restart.

        Args:
            tokens: where it is; what lies beyond the bounds of a boundary is taken for the bound.
            moved_s: when it was moved, monotonic; minus infinity: never.
        """
        self._band = min(max(band_of(tokens, self.work.limit_tokens), LEAST_BAND), 0)
        self._moved_s = moved_s
        self._last = None

    def decide(self, now_s: float, smaller: Station, larger: Station, others: Iterable[LengthsSeen] = ()) -> Boundary:
        """Where the boundary is from now on; asked again at the same instant, the same.

        Args:
            now_s: monotonic.
            smaller: the pool with the limit.
            larger: the next larger one.
            others: what other gateways have seen of the same pair.
        """
        if self._last is not None and now_s <= self._last[0]:
            return self._last[1]
        boundary = self._decide(now_s, smaller, larger, together([self.work.seen(now_s), *others]))
        self._last = now_s, boundary
        return boundary

    def _decide(self, now_s: float, smaller: Station, larger: Station, seen: LengthsSeen) -> Boundary:
        if seen.requests < KNOWN_REQUESTS:
            return self._boundary("too few requests are known to move it")

        def outcome(band: int) -> Split:
            return split(seen.bands, band, smaller, larger, self._level, beyond=self._beyond)

        here = outcome(self._band)
        if here.cost < WAIT_MIN_RATIO:
            return self._boundary(f"{_words(here)}: nobody waits")
        if now_s - self._moved_s < MOVE_EVERY_S:
            return self._boundary(f"{_words(here)}; it moved {now_s - self._moved_s:.0f} s ago")
        # Of equals the highest: the smaller pool was given its limit for a reason.
        costs = {band: outcome(band).cost for band in range(0, LEAST_BAND - 1, -1)}
        best = min(costs, key=lambda band: costs[band])
        if best == self._band or costs[best] > (1 - GAIN_MIN_RATIO) * here.cost:
            return self._boundary(f"{_words(here)}: no other would be better by {GAIN_MIN_RATIO:.0%}")
        move = min(max(best - self._band, -MOVE_MAX_BANDS), MOVE_MAX_BANDS)
        self._band += move
        self._moved_s = now_s
        there = outcome(self._band)
        aim = edge_tokens(best, self.work.limit_tokens)
        return self._boundary(f"{_words(there)}, instead of {_words(here)}; best were {aim:,}")

    def _boundary(self, why: str) -> Boundary:
        limit_tokens = self.work.limit_tokens
        tokens = edge_tokens(self._band, limit_tokens)
        return Boundary(tokens=tokens, limit_tokens=limit_tokens, reason=f"up to {tokens:,} tokens: {why}")


def _words(found: Split) -> str:
    return (
        f"the smaller pool {found.smaller.busy_ratio:.0%} busy with {found.smaller.wait_s:.2f} s of waiting, the "
        f"larger {found.larger.busy_ratio:.0%} with {found.larger.wait_s:.2f} s"
    )
