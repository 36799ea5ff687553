"""Writes texts of so many tokens for one model: exactly with its tokenizer, about with a ratio that was learned.

What must not live here: how pieces are found (pieces.py).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError
from loadtest.text.candidates import ENGLISH_PIECES, ENGLISH_WORDS
from loadtest.text.pieces import Count, Pieces, Style, find_pieces
from loadtest.text.wrapping import Wrapping, measured_wrapping
from services.gateway.tokenizer import load_counting

USUAL_TOKENS_PER_WORD = 1.1
"""Of these common words, in vocabularies of 30,000 tokens and more; smaller ones have up to 1.3."""
USUAL_WRAPPING = Wrapping(chat_tokens=12, system_tokens=16, turn_tokens=10, completion_tokens=0)
"""About what templates in use add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes for one model."""

    pieces: Mapping[Style, Pieces]
    """English is always there; other styles are written in it where the tokenizer has no pieces for them."""
    wrapping: Wrapping
    is_exact: bool
    """Whether a text has exactly as many tokens as were asked for, and a template adds what `wrapping` says."""
    count: Count | None = None
    """The tokenizer's own; None where nobody has it here."""

    def text(self, rng: random.Random, tokens: int, style: Style = Style.ENGLISH) -> str:
        """A text of so many tokens, or of one where fewer are asked for."""
        return self.pieces.get(style, self.pieces[Style.ENGLISH]).text(rng, tokens)

    def more(self, rng: random.Random, tokens: int, style: Style = Style.ENGLISH) -> str:
        """So many tokens to follow a text of this style; empty where none are asked for."""
        return self.pieces.get(style, self.pieces[Style.ENGLISH]).continued(rng, tokens)

    def tokens(self, text: str) -> int:
        """How many a text has; of a writer with a ratio, about."""
        if self.count is not None:
            return self.count([text])[0]
        return round(len(text.split()) * self.pieces[Style.ENGLISH].bulk_tokens)

    def words(self, rng: random.Random, count: int) -> list[str]:
        """So many pieces of one token each (about, without a tokenizer), to be joined as they are, from anywhere."""
        return rng.choices(self.pieces[Style.ENGLISH].bulk, k=count)


def load_writer(folder: Path) -> Writer:
    """A writer that counts as the model in a folder does.

    Raises:
        SetupError: it has no tokenizer or no template that works here, or its tokens cannot be counted ahead.
    """
    counting = load_counting(folder)
    if counting is None:
        raise SetupError(f"{folder} has no tokenizer.json that could be read", "name a folder that has one")
    tokenizer = counting.tokenizer

    def count(texts: Sequence[str]) -> list[int]:
        return [len(found) for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    found = {style: pieces for style in Style if (pieces := find_pieces(count, style)) is not None}
    wrapping = measured_wrapping(counting)
    if Style.ENGLISH not in found or wrapping is None:
        what = "words of one token" if Style.ENGLISH not in found else "a chat template that wraps all texts alike"
        raise SetupError(f"the tokenizer in {folder} has no {what}", "leave its folder out: tokens are then estimated")
    return Writer(pieces=found, wrapping=wrapping, is_exact=True, count=count)


def ratio_writer(samples: Sequence[tuple[int, int]] = ()) -> Writer:
    """A writer for a tokenizer that nobody has here.

    Args:
        samples: words of a chat's only message, and the tokens its prompt had; two or more of different lengths give
            a ratio and what the template adds, by least squares. Without them, both are what is usual.
    """
    ratio, around = fitted(samples) if len({words for words, _ in samples}) > 1 else (USUAL_TOKENS_PER_WORD, None)
    usual = USUAL_WRAPPING
    chat = usual.chat_tokens if around is None else max(round(around), 0)
    english = Pieces(first=ENGLISH_WORDS, bulk=ENGLISH_PIECES, bulk_tokens=max(ratio, 1e-3), rest=())
    wrapping = Wrapping(
        chat_tokens=chat,
        system_tokens=chat + usual.system_tokens - usual.chat_tokens,
        turn_tokens=usual.turn_tokens,
        completion_tokens=usual.completion_tokens,
    )
    return Writer(pieces={Style.ENGLISH: english}, wrapping=wrapping, is_exact=False)


def fitted(samples: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Tokens a word and tokens around them: the least-squares line through samples of two lengths or more."""
    mean_words = sum(words for words, _ in samples) / len(samples)
    mean_tokens = sum(tokens for _, tokens in samples) / len(samples)
    spread = sum((words - mean_words) ** 2 for words, _ in samples)
    ratio = sum((words - mean_words) * (tokens - mean_tokens) for words, tokens in samples) / spread
    return ratio, mean_tokens - ratio * mean_words
