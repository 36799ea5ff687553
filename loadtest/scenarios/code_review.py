"""code-review: repositories of several sizes as the system message, and some questions about each.

What must not live here: real code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cluster.core.errors import SetupError
from loadtest.plan import Session, Turn
from loadtest.scenarios.chat import TOKENS_MAX
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import fitting, grown, room_tokens
from loadtest.text import Style

TEXTS_KEPT = 8
"""Of repositories under review; half a megabyte each at 128k tokens."""
SIZES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReview(Options):
    """The prompt of the first question has the size's tokens; each turn adds to it."""

    sizes: str = option("8192,32768,131072", "Tokens of the first prompt, with commas; each is as frequent.")
    repositories: int = option(4, "Of each size; a review is of one of them.", low=1, high=1_000_000)
    questions: int = option(3, "Turns of a review.", low=1, high=1_000)
    question_tokens: int = option(60, "Of a question, in tokens.", low=1, high=TOKENS_MAX)
    output_tokens: int = option(200, "Answer, in tokens.", low=1, high=TOKENS_MAX)
    think_s: float = option(5.0, "From an answer to the next question, in seconds.", low=0, high=86_400)

    def __post_init__(self) -> None:
        """Sizes are numbers."""
        self.all_sizes()

    def all_sizes(self) -> tuple[int, ...]:
        """As they were asked for.

        Raises:
            SetupError: one is no number of tokens.
        """
        found = tuple(int(size) if size.strip().isdecimal() else 0 for size in self.sizes.split(","))
        if not all(1 <= size <= TOKENS_MAX for size in found) or len(found) > SIZES_MAX:
            raise SetupError(
                f"--set sizes={self.sizes}: not up to {SIZES_MAX} numbers from 1 to {TOKENS_MAX:,}",
                "give tokens with commas, as sizes=8192,32768",
            )
        return found

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One review each."""
        sizes, turns, output = self._fitting(context)
        around = context.writer.wrapping.system_tokens + self.question_tokens
        more = self.question_tokens + output + context.writer.wrapping.turn_tokens

        @lru_cache(maxsize=TEXTS_KEPT)
        def repository(size: int, place: int) -> str:
            words = context.words("repository", size, place)
            return context.writer.text(words, max(size - around, 1), Style.CODE)

        for number, at_s in enumerate(due_s):
            rng = context.rng("review", number)
            size, place = rng.choice(sizes), rng.randrange(self.repositories)
            words = context.words("review", number)
            yield Session(
                at_s=at_s,
                turns=tuple(
                    Turn(
                        text=context.writer.text(words, self.question_tokens),
                        output_tokens=output,
                        prompt_tokens=max(size, around + 1) + turn * more,
                        think_s=self.think_s,
                    )
                    for turn in range(turns)
                ),
                system=repository(size, place),
                label=f"{size / 1024:.3g}k",
                keeps=True,
            )

    def notes(self, context: Context) -> Sequence[str]:
        """Which sizes are left out."""
        fit, turns, output = self._fitting(context)
        found = []
        if wrong := [size for size in self.all_sizes() if size not in fit]:
            instead = "" if set(fit) <= set(self.all_sizes()) else f"; {fit[0]:,} instead"
            found.append(f"prompts left out: {', '.join(f'{size:,}' for size in wrong)} tokens{instead}")
        if (turns, output) != (self.questions, self.output_tokens):
            found.append(f"reviews have {turns} questions and answers of {output:,} tokens")
        return [f"{what}: the largest context is {context.context_tokens:,}" for what in found]

    def _fitting(self, context: Context) -> tuple[tuple[int, ...], int, int]:
        """The sizes whose last turn fits, or the longest that does; how many turns; the length of answers."""
        wrapping = context.writer.wrapping
        least = wrapping.system_tokens + self.question_tokens + 1
        _, output = fitting(least, self.output_tokens, context)
        turn = self.question_tokens + grown(output) + wrapping.turn_tokens
        room = room_tokens(context, output)
        turns = max(min(self.questions, 1 + (room - least) // turn), 1)
        most = max(room - (turns - 1) * turn, 1)
        return tuple(size for size in self.all_sizes() if size <= most) or (most,), turns, output


CODE_REVIEW = Scenario(
    name="code-review",
    sentence="Reviews of repositories of 8k, 32k and 128k tokens, three questions each.",
    kind=CodeReview,
    arrivals=Arrivals(rate_per_s=0.1, duration_s=300.0),
)
