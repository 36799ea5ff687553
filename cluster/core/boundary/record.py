"""What gateways tell each other about boundaries, and what is in force: for the store, and for people.

Every gateway process sees a part of the traffic, so each tells what it has seen; one of them decides for all. Fields
added later have defaults, because gateways of two versions meet. What must not live here: the store
(cluster/state/boundary.py), tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.core.boundary.lengths import HIGHEST_BAND, LOWEST_BAND, Band, LengthsSeen
from cluster.core.lease import PoolName

ROUND_S = 10.0
"""How often a gateway tells and looks. A move is one a minute at most, so gateways differ for a small part of it."""
TOLD_TTL_S = 3 * ROUND_S
"""How long its word outlives it: a slow round loses nobody's traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSeen:
    """One pair of pools, as one gateway process has seen their requests."""

    limit_tokens: int
    """The smaller pool's: bands are counted from it."""
    seen: LengthsSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySeen:
    """All pairs of one gateway process."""

    gateway: str
    """Its id, a new one after every start."""
    pairs: Mapping[PoolName, PairSeen] = field(default_factory=dict)
    """By the smaller pool."""

    def to_dict(self) -> dict[str, Any]:
        """For the store."""
        return {
            "gateway": self.gateway,
            "pairs": {
                pool: {
                    "limit_tokens": pair.limit_tokens,
                    "requests": pair.seen.requests,
                    "bands": [list(band) for band in pair.seen.bands],
                }
                for pool, pair in self.pairs.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GatewaySeen:
        """What `to_dict` made, by this version or another.

        Raises:
            KeyError: it is something else; so do TypeError, ValueError and AttributeError.
        """
        return cls(
            gateway=str(data["gateway"]),
            pairs={
                PoolName(str(pool)): PairSeen(
                    limit_tokens=int(pair["limit_tokens"]),
                    seen=LengthsSeen(float(pair["requests"]), [_band(*band) for band in pair["bands"]]),
                )
                for pool, pair in data["pairs"].items()
            },
        )


def _band(number: float, requests_per_s: float, prefill_tokens: float, output_tokens: float) -> Band:
    if not LOWEST_BAND <= number <= HIGHEST_BAND:
        raise ValueError(f"band {number} is not between {LOWEST_BAND} and {HIGHEST_BAND}")
    if not all(math.isfinite(value) and value >= 0 for value in (requests_per_s, prefill_tokens, output_tokens)):
        raise ValueError(f"band {number} holds a number that counts nothing")
    return Band(int(number), float(requests_per_s), float(prefill_tokens), float(output_tokens))


def of_pair(gateways: Iterable[GatewaySeen], pool: PoolName, limit_tokens: int) -> list[LengthsSeen]:
    """What gateways tell of one pair; one that knows another limit counts other bands, and is passed over."""
    pairs = (each.pairs.get(pool) for each in gateways)
    return [pair.seen for pair in pairs if pair is not None and pair.limit_tokens == limit_tokens]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundaryRecord:
    """The boundary between two pools that is in force, and why."""

    smaller: PoolName
    larger: PoolName
    tokens: int
    """The smaller one is preferred up to so many."""
    limit_tokens: int
    """It would hold so many."""
    reason: str
    """For people, in one sentence."""
    written_s: float
    """When it was last decided, by the store's clock, in seconds since the epoch."""
    moved_s: float | None = None
    """When it was last moved, by the same clock; None: never."""

    def to_dict(self) -> dict[str, Any]:
        """For the store, and for `--json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BoundaryRecord:
        """What `to_dict` made.

        Raises:
            KeyError: it is something else; so do TypeError and ValueError.
        """
        return cls(
            smaller=PoolName(str(data["smaller"])),
            larger=PoolName(str(data["larger"])),
            tokens=int(data["tokens"]),
            limit_tokens=int(data["limit_tokens"]),
            reason=str(data["reason"]),
            written_s=float(data["written_s"]),
            moved_s=None if data["moved_s"] is None else float(data["moved_s"]),
        )
