"""tenants: several tenants whose shares of the load are not those of their weights.

What must not live here: weights, which are the gateway's configuration; keys, which the command takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.core.errors import SetupError
from loadtest.plan import Session
from loadtest.scenarios.chat import SPREAD_MAX, TOKENS_MAX, chat
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import drawn, shrunk_note

TENANTS_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants(Options):
    """Each session is of a tenant by chance, as its share of the load says."""

    shares: str = option(
        "gold=1,silver=1,bronze=1", "Tenants and their shares of the load; the command needs a key of each."
    )
    prompt_tokens: int = option(500, "Median prompt, in tokens.", low=1, high=TOKENS_MAX)
    output_tokens: int = option(100, "Answer, in tokens.", low=1, high=TOKENS_MAX)
    spread: float = option(0.3, "Standard deviation of the logarithm of prompts.", low=0, high=SPREAD_MAX)

    def __post_init__(self) -> None:
        """Shares are numbers."""
        self.weights()

    def weights(self) -> Mapping[str, float]:
        """Shares by tenant.

        Raises:
            SetupError: they are not NAME=NUMBER, or none is above 0.
        """
        found: dict[str, float] = {}
        for part in self.shares.split(","):
            name, _, number = part.partition("=")
            try:
                found[name.strip()] = float(number)
            except ValueError:
                found[name.strip()] = -1.0
        if "" in found or min(found.values()) < 0 or not 0 < sum(found.values()) < float("inf"):
            raise SetupError(
                f"--set shares={self.shares}: not NAME=SHARE with commas, shares above 0", "as shares=gold=3,bronze=1"
            )
        if len(found) > TENANTS_MAX:
            raise SetupError(f"--set shares: {len(found)} tenants", f"at most {TENANTS_MAX}")
        return found

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One request each."""
        weights = self.weights()
        names, shares = tuple(weights), tuple(weights.values())
        for number, at_s in enumerate(due_s):
            rng = context.rng("tenants", number)
            (tenant,) = rng.choices(names, weights=shares)
            prompt = drawn(rng, self.prompt_tokens, self.spread)
            yield chat(
                context,
                number,
                at_s,
                prompt_tokens=prompt,
                output_tokens=self.output_tokens,
                label=tenant,
                tenant=tenant,
            )

    def notes(self, context: Context) -> Sequence[str]:
        """What does not fit."""
        return shrunk_note("the median", self.prompt_tokens, self.output_tokens, context)


TENANTS = Scenario(
    name="tenants",
    sentence="Tenants that send as much as each other and have unequal weights: who waits under overload?",
    kind=Tenants,
    arrivals=Arrivals(rate_per_s=8.0, duration_s=120.0),
)
