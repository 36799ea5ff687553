"""What gateways are asked for, by pool: each tells its own, and all together they are a pool's arrivals.

A request belongs to the smallest pool that holds it, wherever it is served: that pool's size is what decides whether it
would have been served there. What must not live here: stores, clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cluster.core.autoscaling.demand import Arrivals
from cluster.core.lease import PoolName

PUBLISH_S = 0.25
"""How often a gateway tells what changed: the largest part of the time from a request to the order of a replica."""
GATEWAY_TTL_S = 4.0
"""How long its word outlives it, as a lease outlives a replica."""
UNCHANGED_PUBLISH_S = 1.0
"""How often it repeats what did not change, so that it is known to live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAsked:
    """One pool, as one gateway process knows it."""

    requests: int = 0
    """Since the gateway began, as the other counts."""
    prefill_tokens: int = 0
    """Prompt tokens, without those expected in a cache."""
    cached_tokens: int = 0
    """Those."""
    answers: int = 0
    """Requests that have ended with a count of their output."""
    output_tokens: int = 0
    """Of those."""
    held: int = 0
    """Requests that wait in the gateway now."""
    held_tokens: int = 0
    """Their prompts."""
    oldest_wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAsked:
    """All pools of one gateway process."""

    gateway: str
    """Its id, a new one after every start."""
    pools: Mapping[PoolName, PoolAsked] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the store."""
        return {"gateway": self.gateway, "pools": {pool: asdict(asked) for pool, asked in self.pools.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GatewayAsked:
        """What `to_dict` made, by this version or another.

        Raises:
            KeyError: it is something else; so do TypeError, ValueError and AttributeError.
        """
        kinds: dict[str, Callable[[Any], Any]] = {
            known.name: float if known.type == "float" else int for known in fields(PoolAsked)
        }
        return cls(
            gateway=str(data["gateway"]),
            pools={
                PoolName(str(pool)): PoolAsked(**{name: kind(asked.get(name, 0)) for name, kind in kinds.items()})
                for pool, asked in data["pools"].items()
            },
        )


class ArrivalTotals:
    """One pool's arrivals over all gateways; gateways come and go, and the sum only grows."""

    def __init__(self) -> None:
        self._seen: dict[str, PoolAsked] = {}
        self._total = Arrivals()

    def update(self, asked: Mapping[str, PoolAsked]) -> Arrivals:
        """Take over what each gateway tells now, by its id."""
        total = self._total
        for gateway, told in asked.items():
            # Whoever is seen for the first time may have counted for days: only what comes from now on is new.
            known = self._seen.get(gateway, told)
            total = Arrivals(
                requests=total.requests + max(told.requests - known.requests, 0),
                prefill_tokens=total.prefill_tokens + max(told.prefill_tokens - known.prefill_tokens, 0),
                answers=total.answers + max(told.answers - known.answers, 0),
                output_tokens=total.output_tokens + max(told.output_tokens - known.output_tokens, 0),
                cached_tokens=total.cached_tokens + max(told.cached_tokens - known.cached_tokens, 0),
            )
        self._seen = dict(asked)
        self._total = total
        return total


def of_pool(gateways: Iterable[GatewayAsked], pool: PoolName) -> dict[str, PoolAsked]:
    """What each gateway tells of one pool, by its id."""
    return {each.gateway: each.pools.get(pool, PoolAsked()) for each in gateways}
