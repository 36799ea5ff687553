"""Pieces are found by counting, and refused where their tokens do not add up."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from loadtest.text.candidates import ENGLISH_WORDS
from loadtest.text.pieces import Pieces, Style, find_pieces


def by_words(texts: Sequence[str]) -> list[int]:
    """A token a word: every tokenizer that splits at blanks, in the simplest form."""
    return [len(text.split()) for text in texts]


def by_characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def merging(texts: Sequence[str]) -> list[int]:
    """Two words in a row are one token: pieces have one token each, and together fewer."""
    return [-(-len(text.split()) // 2) for text in texts]


def test_words_that_are_one_token_each_are_the_pieces() -> None:
    found = find_pieces(by_words, Style.ENGLISH)
    assert found is not None
    assert set(found.first) == set(ENGLISH_WORDS)
    text = found.text(random.Random(1), 50)
    assert len(text.split()) == 50
    assert not text.startswith(" ")


@pytest.mark.parametrize("count", [by_characters, merging])
def test_a_tokenizer_whose_words_do_not_add_up_has_none(count: object) -> None:
    assert find_pieces(count, Style.ENGLISH) is None  # type: ignore[arg-type]


def test_a_style_without_enough_pieces_of_one_size_has_none() -> None:
    def odd(texts: Sequence[str]) -> list[int]:
        # Each Chinese piece has its own size; English is as ever.
        return [sum(map(ord, text)) if ord(max(text, default=" ")) > 255 else len(text.split()) for text in texts]

    assert find_pieces(odd, Style.CHINESE) is None
    assert find_pieces(odd, Style.ENGLISH) is not None


def test_what_a_whole_number_of_pieces_leaves_over_is_filled() -> None:
    pieces = Pieces(first=["a"], bulk=["bbb"], bulk_tokens=3, rest=["c"])
    assert [pieces.text(random.Random(0), tokens) for tokens in (0, 1, 2, 4, 6)] == ["a", "a", "ac", "abbb", "abbbcc"]


def test_a_ratio_comes_near() -> None:
    pieces = Pieces(first=["a"], bulk=["b"], bulk_tokens=1.5, rest=[])
    assert len(pieces.text(random.Random(0), 31)) == 21
