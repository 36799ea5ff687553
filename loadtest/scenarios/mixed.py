"""mixed: short requests with a few long ones among them, which may hold them up (head-of-line blocking).

What must not live here: pools, which are to prevent it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.plan import Session
from loadtest.scenarios.chat import SPREAD_MAX, TOKENS_MAX, chat
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import drawn, shrunk_note


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed(Options):
    """Each session is short or long by chance."""

    short_tokens: int = option(200, "Median short prompt, in tokens.", low=1, high=TOKENS_MAX)
    short_output_tokens: int = option(64, "Short requests' answer, in tokens.", low=1, high=TOKENS_MAX)
    spread: float = option(0.5, "Standard deviation of the logarithm of short prompts.", low=0, high=SPREAD_MAX)
    long_tokens: int = option(60_000, "Long prompt, in tokens.", low=1, high=TOKENS_MAX)
    long_output_tokens: int = option(64, "Long requests' answer, in tokens.", low=1, high=TOKENS_MAX)
    long_share: float = option(0.05, "Of sessions, those that are long.", low=0, high=1)
    with_long: bool = option(
        True, "no: long sessions are left out, and the short ones stay the same at the same times: the baseline."
    )

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One request each."""
        for number, at_s in enumerate(due_s):
            rng = context.rng("mixed", number)
            is_long = rng.random() < self.long_share
            short = drawn(rng, self.short_tokens, self.spread)
            if is_long and not self.with_long:
                continue
            yield chat(
                context,
                number,
                at_s,
                prompt_tokens=self.long_tokens if is_long else short,
                output_tokens=self.long_output_tokens if is_long else self.short_output_tokens,
                label="long" if is_long else "short",
            )

    def notes(self, context: Context) -> Sequence[str]:
        """What does not fit."""
        return (
            *shrunk_note("short requests", self.short_tokens, self.short_output_tokens, context),
            *shrunk_note("long requests", self.long_tokens, self.long_output_tokens, context),
        )


MIXED = Scenario(
    name="mixed",
    sentence="Short chats with a few long prompts among them: do the long ones hold up the short ones?",
    kind=Mixed,
    arrivals=Arrivals(rate_per_s=4.0, duration_s=120.0),
)
