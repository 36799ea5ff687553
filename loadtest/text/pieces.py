"""Pieces of text whose tokens add up: found by counting, proved by counting.

A byte-level or word-level tokenizer splits a text by a pattern before it merges anything, so that pieces which begin
where the pattern splits have as many tokens together as one by one. Whether that holds for a tokenizer is tried, not
believed. What must not live here: templates (wrapping.py), writing (writer.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtest.text.candidates import CHINESE_PIECES, CHINESE_WORDS, CODE_PIECES, ENGLISH_PIECES, ENGLISH_WORDS

Count = Callable[[Sequence[str]], list[int]]
"""The tokens of each of these texts, without any that are added by itself."""

PIECES_MIN = 20
"""Fewer of one size make texts whose beginnings are soon alike."""
TRIALS = 8
TRIAL_TOKENS = (3, 17, 400)
"""Lengths that are tried: a rest smaller than a piece, some pieces, many."""


class Style(StrEnum):
    """What a text looks like."""

    ENGLISH = "english"
    CHINESE = "chinese"
    CODE = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What a text of one style is put together from; all of a list have equally many tokens."""

    first: Sequence[str]
    """What a text begins with: one token each."""
    bulk: Sequence[str]
    bulk_tokens: float
    """Of each piece of the bulk. A whole number, unless it is a ratio that was learned."""
    rest: Sequence[str]
    """One token each: what a whole number of the bulk leaves over. Empty with a ratio."""

    def text(self, rng: random.Random, tokens: int) -> str:
        """A text of so many tokens; of at least one.

        Args:
            rng: draws the pieces.
            tokens: how many; a ratio comes as near as it can.
        """
        return str(rng.choice(self.first)) + self.continued(rng, tokens - 1)

    def continued(self, rng: random.Random, tokens: int) -> str:
        """So many tokens more, to follow a text; empty where none are left."""
        many = max(int(tokens // self.bulk_tokens), 0)
        left = max(tokens - int(many * self.bulk_tokens), 0) if self.rest else 0
        drawn = rng.choices(self.bulk, k=many)
        if left:
            drawn += rng.choices(self.rest, k=left)
        return "".join(drawn)


def find_pieces(count: Count, style: Style) -> Pieces | None:
    """The pieces of a tokenizer for a style; None where it has too few, or where theirs do not add up."""
    words = [
        word
        for word, bare, spaced in zip(ENGLISH_WORDS, count(ENGLISH_WORDS), count(ENGLISH_PIECES), strict=True)
        if bare == 1 and spaced == 1
    ]
    if len(words) < PIECES_MIN:
        return None
    rest = tuple(f" {word}" for word in words)
    if style is Style.ENGLISH:
        pieces = Pieces(first=tuple(words), bulk=rest, bulk_tokens=1, rest=rest)
    else:
        bulk, tokens = _commonest(count, CHINESE_PIECES if style is Style.CHINESE else CODE_PIECES)
        if len(bulk) < PIECES_MIN:
            return None
        pieces = Pieces(first=_first(count, style) or tuple(words), bulk=bulk, bulk_tokens=tokens, rest=rest)
    return pieces if _adds_up(count, pieces) else None


def _commonest(count: Count, candidates: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The largest group of candidates that have equally many tokens; the smaller number of tokens of two as large."""
    groups: dict[int, list[str]] = {}
    for piece, tokens in zip(candidates, count(candidates), strict=True):
        groups.setdefault(tokens, []).append(piece)
    tokens, found = min(groups.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return tuple(found), tokens


def _first(count: Count, style: Style) -> tuple[str, ...]:
    if style is not Style.CHINESE:
        return ()
    found = [word for word, tokens in zip(CHINESE_WORDS, count(CHINESE_WORDS), strict=True) if tokens == 1]
    return tuple(found) if len(found) >= PIECES_MIN else ()


def _adds_up(count: Count, pieces: Pieces) -> bool:
    rng = random.Random(0)  # noqa: S311 - a trial that can be repeated
    wanted = [tokens for tokens in TRIAL_TOKENS for _ in range(TRIALS)]
    return count([pieces.text(rng, tokens) for tokens in wanted]) == wanted
