"""What a replica's lease says of its KV tier: whose blocks it can fetch, and what a fetch is worth there.

What must not live here: the lease, how the numbers are measured (break_even.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTerms:
    """One replica's tier, while it fetches."""

    fingerprint: str
    life_s: int
    """How long Redis keeps a block after its last use."""
    least_tokens: int
    """It does not fetch fewer: computing them would be as fast."""
    least_prompt_tokens: int
    """It asks Redis about no shorter prompt: the question would take too much of what computing it takes."""
    cost_ratio: float
    """What fetching a token takes of what computing it takes, 0 to 1."""

    def fetched(self, *, resident_tokens: int, kept_tokens: int) -> int:
        """Prompt tokens it will fetch, where so many are resident and so many are in Redis."""
        more = kept_tokens - resident_tokens
        is_worth_it = more >= self.least_tokens and kept_tokens >= self.least_prompt_tokens
        return more if is_worth_it else 0

    def saved(self, fetched_tokens: int) -> int:
        """Computing so many tokens would take as long as is saved by fetching these."""
        return int(fetched_tokens * (1.0 - self.cost_ratio))

    def to_dict(self) -> dict[str, Any]:
        """As the lease carries it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> TierTerms | None:
        """Read what a lease carries; None where it is not understood, as from a replica of another version."""
        if not isinstance(data, Mapping):
            return None
        fingerprint, ratio = data.get("fingerprint"), data.get("cost_ratio")
        counts: dict[str, Any] = {name: data.get(name) for name in ("life_s", "least_tokens", "least_prompt_tokens")}
        if not isinstance(fingerprint, str) or not all(
            isinstance(count, int) and count > 0 for count in counts.values()
        ):
            return None
        if not isinstance(ratio, (int, float)) or not 0 <= ratio <= 1:
            return None
        return cls(fingerprint=fingerprint, cost_ratio=float(ratio), **counts)
