"""A message of so many tokens: facts at their depths in filler, then a question.

What must not live here: what facts say (kinds.py), how filler is written (loadtest/text).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from cluster.core.errors import SetupError
from loadtest.quality.question import Fact
from loadtest.text import Style, Writer

TRIES = 4
"""The first is right but where marks of two parts become one token; the second then makes up for it."""
GAP = "\n\n"
"""Between the document and the question."""


def message(
    writer: Writer,
    words: Callable[[], random.Random],
    *,
    facts: Sequence[Fact],
    question: str,
    tokens: int,
    style: Style,
) -> str:
    """A message of so many tokens: exactly where the writer counts, else about.

    Args:
        writer: of the model.
        words: draws filler, from the beginning at each call.
        facts: one or more.
        question: what is asked at the end.
        tokens: of the whole message.
        style: of the filler.

    Raises:
        SetupError: the facts and the question alone take more.
    """
    ordered = sorted(facts, key=lambda fact: fact.depth)
    tail = GAP + question
    filler = tokens - writer.tokens(tail) - sum(writer.tokens(fact.sentence) for fact in ordered)
    for _ in range(TRIES):
        if filler < 1:
            break
        text = _document(writer, words(), ordered, filler, style) + tail
        missing = tokens - writer.tokens(text)
        if missing == 0 or not writer.is_exact:
            return text
        filler += missing
    raise SetupError(
        f"a question of {tokens:,} tokens has no room for its facts, or cannot be made exactly so long", "ask for more"
    )


def _document(writer: Writer, rng: random.Random, facts: Sequence[Fact], filler: int, style: Style) -> str:
    """Filler of so many tokens with facts in it; the first word comes before all of them."""
    # A position is a number of filler tokens: the facts between do not count.
    cuts = [1, *(1 + round(fact.depth * (filler - 1)) for fact in facts), filler]
    parts = [writer.text(rng, 1, style)]
    for (begin, end), fact in zip(pairwise(cuts), [*facts, None], strict=True):
        parts.append(writer.more(rng, end - begin, style))
        if fact is not None:
            parts.append(fact.sentence)
    return "".join(parts)
