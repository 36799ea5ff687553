"""short-chat: one question a session, nothing shared; and what other scenarios of single questions are made of.

What must not live here: conversations, documents that are shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.plan import Session, Turn
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import LANGUAGES, Arrivals, Context, Options, Scenario
from loadtest.scenarios.sizes import drawn, fitting, message_tokens, shrunk_note, style_of

TOKENS_MAX = 4_194_304
"""Beyond any context."""
SPREAD_MAX = 2.0


def chat(
    context: Context,
    number: int,
    at_s: float,
    *,
    prompt_tokens: int,
    output_tokens: int,
    language: str = "english",
    label: str = "",
    tenant: str = "",
) -> Session:
    """One question of so many prompt tokens in all, or fewer where the context is smaller."""
    prompt, output = fitting(prompt_tokens, output_tokens, context)
    tokens = message_tokens(prompt, context.writer.wrapping)
    text = context.writer.text(context.words("chat", number), tokens, style_of(language, number))
    turn = Turn(text=text, output_tokens=output, prompt_tokens=tokens + context.writer.wrapping.chat_tokens)
    return Session(at_s=at_s, turns=(turn,), label=label, tenant=tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Options):
    """One question a session, nothing shared."""

    prompt_tokens: int = option(200, "Median prompt, template included, in tokens.", low=1, high=TOKENS_MAX)
    output_tokens: int = option(100, "Median answer, in tokens.", low=1, high=TOKENS_MAX)
    spread: float = option(
        0.5, "Standard deviation of the logarithm of both lengths; 0: all alike.", low=0, high=SPREAD_MAX
    )
    language: str = option("english", "Of the text.", choices=LANGUAGES)

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One question each."""
        for number, at_s in enumerate(due_s):
            rng = context.rng("chat", number)
            prompt = drawn(rng, self.prompt_tokens, self.spread)
            output = drawn(rng, self.output_tokens, self.spread)
            yield chat(
                context, number, at_s, prompt_tokens=prompt, output_tokens=output, language=self.language, label="chat"
            )

    def notes(self, context: Context) -> Sequence[str]:
        """What does not fit."""
        return shrunk_note("requests", self.prompt_tokens, self.output_tokens, context)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenChat(Chat):
    """Chats that are all of one size."""

    spread: float = option(
        0.0, "Standard deviation of the logarithm of both lengths; 0: all alike.", low=0, high=SPREAD_MAX
    )


SHORT_CHAT = Scenario(
    name="short-chat",
    sentence="Short questions, nothing shared between them.",
    kind=Chat,
    arrivals=Arrivals(rate_per_s=4.0),
)
