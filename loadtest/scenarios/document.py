"""document: one document, many questions about it, each in a conversation of its own.

What must not live here: conversations of several turns (code_review.py, agents.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.plan import Session, Turn
from loadtest.scenarios.chat import TOKENS_MAX
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import LANGUAGES, Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import room_tokens, style_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Document(Options):
    """A document is the system message; a question comes after it."""

    document_tokens: int = option(30_000, "Of a document, in tokens.", low=1, high=TOKENS_MAX)
    question_tokens: int = option(60, "Of a question, in tokens.", low=1, high=TOKENS_MAX)
    output_tokens: int = option(150, "Answer, in tokens.", low=1, high=TOKENS_MAX)
    questions: int = option(50, "About a document before the next document comes.", low=1, high=1_000_000)
    language: str = option("english", "Of documents; both: they take turns.", choices=LANGUAGES)

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One question each."""
        tokens = self._document_tokens(context)
        prompt_tokens = context.writer.wrapping.system_tokens + tokens + self.question_tokens
        last, document = -1, ""
        for number, at_s in enumerate(due_s):
            place = number // self.questions
            if place != last:
                style = style_of(self.language, place)
                last, document = place, context.writer.text(context.words("document", place), tokens, style)
            question = context.writer.text(context.words("question", number), self.question_tokens)
            yield Session(
                at_s=at_s,
                turns=(Turn(text=question, output_tokens=self.output_tokens, prompt_tokens=prompt_tokens),),
                system=document,
                # The first question of a document finds nothing cached: it is not to be mixed with the others.
                label="first" if number % self.questions == 0 else "again",
            )

    def notes(self, context: Context) -> Sequence[str]:
        """Whether the document is shorter."""
        tokens = self._document_tokens(context)
        if tokens == self.document_tokens:
            return ()
        note = (
            f"documents have {tokens:,} tokens, not {self.document_tokens:,}: the largest context is "
            f"{context.context_tokens:,}"
        )
        return (note,)

    def _document_tokens(self, context: Context) -> int:
        around = context.writer.wrapping.system_tokens + self.question_tokens
        return min(self.document_tokens, max(room_tokens(context, self.output_tokens) - around, 1))


DOCUMENT = Scenario(
    name="document",
    sentence="Many questions about one long document, then about the next: what the prefix cache is for.",
    kind=Document,
    arrivals=Arrivals(rate_per_s=1.0),
)
