"""What a run measures, and which clusters that takes.

What must not live here: starting them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.prefix.routing import POLICIES
from loadtest.prefix.ttft import ANSWER_TOKENS
from loadtest.prefix.workload import Shape

CACHE_SHARE = 0.6
"""One replica cannot hold everything, two can: what a cache that is always full is like. Where each replica has room
for everything, round-robin computes everything twice at the most, and no policy can be under half of that."""
TTFT_CONTEXTS = 2
"""KV cache where TTFT alone is measured."""
SLACK_TOKENS = 128
"""A document's words are about as many tokens, and a template adds some."""


class Part(StrEnum):
    """What is measured."""

    TTFT = "ttft"
    ROUTING = "routing"
    ALL = "all"


class Tier(StrEnum):
    """With which states of the Redis tier policies are compared."""

    OFF = "off"
    ON = "on"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One cluster, and what it is for."""

    with_tier: bool
    cache_tokens: int
    cache_share: float | None = None
    """Policies are compared with this cache; None where they are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that was asked for."""

    model: str = "demo"
    dtype: str = "auto"
    part: Part = Part.ALL
    prefix_tokens: int = 3_000
    repeats: int = 5
    shape: Shape = field(default_factory=Shape)
    policies: Sequence[str] = POLICIES
    tier: Tier = Tier.BOTH
    concurrency: int = 2
    cache_shares: Sequence[float] = (CACHE_SHARE,)
    """KV caches of a replica to compare policies with, as shares of what all conversations take."""
    seed: int = 1

    @property
    def context_tokens(self) -> int:
        """The longest request."""
        longest = 0
        if self.part is not Part.ROUTING:
            longest = self.prefix_tokens + ANSWER_TOKENS + SLACK_TOKENS
        if self.part is not Part.TTFT:
            longest = max(longest, self.shape.longest_tokens + SLACK_TOKENS)
        return longest

    def stages(self) -> list[Stage]:
        """The clusters to start, in order."""
        if self.part is Part.TTFT:
            return [Stage(with_tier=True, cache_tokens=TTFT_CONTEXTS * self.context_tokens)]
        tiers = {Tier.OFF: (False,), Tier.ON: (True,), Tier.BOTH: (True, False)}[self.tier]
        stages = [
            Stage(with_tier=with_tier, cache_tokens=int(share * self.shape.distinct_tokens), cache_share=share)
            for with_tier in tiers
            for share in self.cache_shares
        ]
        if self.part is Part.ALL and self.tier is Tier.OFF:
            stages.insert(0, Stage(with_tier=True, cache_tokens=TTFT_CONTEXTS * self.context_tokens))
        return stages
