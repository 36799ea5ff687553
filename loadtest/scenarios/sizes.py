"""Lengths that fit: of prompts within a context, drawn around a median.

What must not live here: text.
"""

from __future__ import annotations

import random
from math import ceil, exp

from loadtest.scenarios.scenario import CONTEXT_SLACK_TOKENS, Context
from loadtest.text import Style, Wrapping

SIGMAS_MAX = 2.5
"""Draws beyond are cut: of a lognormal, 1.2% of them."""
ANSWER_GROWTH = 1.2
"""Tokens of an answer's text against those that were generated: up to 1.1 for tokens drawn at random from a whole
vocabulary, the hardest case, as untrained models write."""
OUTPUT_SHARE_MAX = 0.25
"""Of a context that is too small, to answers; the rest is for prompts, which most scenarios are about."""


def room_tokens(context: Context, output_tokens: int) -> int:
    """The longest prompt beside so much output; at least 1."""
    return max(context.context_tokens - output_tokens - CONTEXT_SLACK_TOKENS, 1)


def fitting(prompt_tokens: int, output_tokens: int, context: Context) -> tuple[int, int]:
    """A prompt and an output that fit the context: both as asked, or a shorter prompt.

    The output is shorter only where it takes more than its share of the context by itself.
    """
    room = context.context_tokens - CONTEXT_SLACK_TOKENS
    if prompt_tokens + output_tokens <= room:
        return prompt_tokens, output_tokens
    output = max(min(output_tokens, int(room * OUTPUT_SHARE_MAX)), 1)
    return max(min(prompt_tokens, room - output), 1), output


def grown(output_tokens: int) -> int:
    """The most that an answer has when it comes back as text in the next prompt."""
    return ceil(output_tokens * ANSWER_GROWTH)


def shrunk_note(what: str, prompt_tokens: int, output_tokens: int, context: Context) -> tuple[str, ...]:
    """Says that it does not fit; nothing where it does."""
    prompt, output = fitting(prompt_tokens, output_tokens, context)
    if (prompt, output) == (prompt_tokens, output_tokens):
        return ()
    note = (
        f"{what}: {prompt_tokens:,} prompt and {output_tokens:,} output tokens do not fit the largest context, "
        f"{context.context_tokens:,}: {prompt:,} and {output:,} instead"
    )
    return (note,)


def drawn(rng: random.Random, median_tokens: int, spread: float) -> int:
    """A lognormal length of this median; `spread` is the standard deviation of its logarithm, 0 for always the same."""
    sigmas = max(min(rng.gauss(0.0, 1.0), SIGMAS_MAX), -SIGMAS_MAX)
    return max(round(median_tokens * exp(spread * sigmas)), 1)


def message_tokens(prompt_tokens: int, wrapping: Wrapping) -> int:
    """Of the only message of a chat whose prompt is to have so many; at least 1."""
    return max(prompt_tokens - wrapping.chat_tokens, 1)


def style_of(language: str, number: int) -> Style:
    """The style of a session: `both` takes turns."""
    if language == "both":
        return Style.CHINESE if number % 2 else Style.ENGLISH
    return Style(language)
