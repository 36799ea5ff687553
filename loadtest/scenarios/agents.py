"""agents: long conversations whose prompt is the one before and a little more.

What must not live here: tools that really run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.plan import Session, Turn
from loadtest.scenarios.chat import TOKENS_MAX
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import drawn, grown, room_tokens

STEP_SPREAD = 0.6
"""Of the lengths of what tools say."""
STEP_TOKENS_MIN = 16
"""Where turns would have to be shorter, agents have fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents(Options):
    """All agents have the same system message; each goes its own way from there."""

    turns: int = option(24, "Of each agent.", low=1, high=10_000)
    system_tokens: int = option(3_000, "Instructions and tools, the same for all, in tokens.", low=1, high=TOKENS_MAX)
    step_tokens: int = option(400, "Median of what each turn adds, as a tool's output, in tokens.", low=1,
                              high=TOKENS_MAX)  # fmt: skip
    output_tokens: int = option(120, "Answer, in tokens.", low=1, high=TOKENS_MAX)
    think_s: float = option(2.0, "From an answer to the next turn, in seconds.", low=0, high=86_400)

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One agent each."""
        system = context.writer.text(context.words("agents"), self._system_tokens(context))
        for number, at_s in enumerate(due_s):
            yield Session(
                at_s=at_s, turns=tuple(self._turns(number, context)), system=system, label="agent", keeps=True
            )

    def notes(self, context: Context) -> Sequence[str]:
        """What is smaller."""
        found = []
        if (system := self._system_tokens(context)) < self.system_tokens:
            found.append(f"the system message has {system:,} tokens, not {self.system_tokens:,}")
        if (step := self._step_tokens(context)) < self.step_tokens:
            found.append(f"turns add {step:,} tokens in the median, not {self.step_tokens:,}")
        if step == STEP_TOKENS_MIN < self.step_tokens:
            found.append(f"agents end before {self.turns} turns, when the next would not fit")
        return [f"{what}: the largest context is {context.context_tokens:,}" for what in found]

    def _turns(self, number: int, context: Context) -> Iterator[Turn]:
        """As many as fit; at least one."""
        rng, words = context.rng("agent", number), context.words("agent", number)
        median, left = self._step_tokens(context), self._room_tokens(context)
        prompt = self._system_tokens(context) + context.writer.wrapping.system_tokens
        for turn in range(self.turns):
            step = drawn(rng, median, STEP_SPREAD)
            if turn == 0:
                step = min(step, max(left, 1))
            elif step > left:
                return
            prompt += step
            yield Turn(
                text=context.writer.text(words, step),
                output_tokens=self.output_tokens,
                prompt_tokens=prompt,
                think_s=self.think_s,
            )
            prompt += self.output_tokens + context.writer.wrapping.turn_tokens
            left -= step + self._answer_tokens(context)

    def _step_tokens(self, context: Context) -> int:
        """Half of what there is room for, where that is less than was asked for: steps vary, all turns are to fit."""
        room = self._room_tokens(context) - (self.turns - 1) * self._answer_tokens(context)
        return max(min(self.step_tokens, room // (2 * self.turns)), min(STEP_TOKENS_MIN, self.step_tokens))

    def _room_tokens(self, context: Context) -> int:
        """For all that turns add and all answers but the last."""
        around = self._system_tokens(context) + context.writer.wrapping.system_tokens
        return room_tokens(context, self.output_tokens) - around

    def _answer_tokens(self, context: Context) -> int:
        """What an answer adds to the next prompt."""
        return grown(self.output_tokens) + context.writer.wrapping.turn_tokens

    def _system_tokens(self, context: Context) -> int:
        """At most a quarter of the context, so that there is room to grow in."""
        return max(min(self.system_tokens, context.context_tokens // 4), 1)


AGENTS = Scenario(
    name="agents",
    sentence="Agents of 24 turns whose prompt grows with each turn: every prompt begins with the one before.",
    kind=Agents,
    arrivals=Arrivals(rate_per_s=0.2, duration_s=300.0),
)
