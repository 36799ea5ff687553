"""What a set is to have, and under which conditions it is asked, read from lists with commas.

What must not live here: making the set (question_set.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cluster.core.errors import SetupError
from loadtest.quality.answered import Condition
from loadtest.quality.question import Language, QuestionKind
from loadtest.quality.question_set import SetOptions

LENGTH_MAX = 10_000_000
PERCENT = 100
Item = TypeVar("Item")


def read_set(*, lengths: str, depths: str, kinds: str, languages: str, repeats: int, output_tokens: int) -> SetOptions:
    """What was asked for.

    Args:
        lengths: tokens, as `1024,2048`.
        depths: percent, as `0,50,100`.
        kinds: as `needle,join`.
        languages: as `english`.
        repeats: questions of each sort and place.
        output_tokens: the most of an answer.

    Raises:
        SetupError: a list has something else, nothing, or something twice.
    """
    return SetOptions(
        lengths=read_list("--lengths", lengths, _length, f"whole numbers up to {LENGTH_MAX:,}"),
        depths=read_list("--depths", depths, _depth, "whole numbers from 0 to 100"),
        kinds=read_list("--kinds", kinds, QuestionKind, ", ".join(QuestionKind)),
        languages=read_list("--languages", languages, Language, ", ".join(Language)),
        repeats=repeats,
        output_tokens=output_tokens,
    )


def read_conditions(text: str) -> tuple[Condition, ...]:
    """The conditions of `--conditions`.

    Raises:
        SetupError: the list has something else, nothing, or something twice.
    """
    return read_list("--conditions", text, Condition, ", ".join(Condition))


def read_list(option: str, text: str, read: Callable[[str], Item], takes: str) -> tuple[Item, ...]:
    """The items of a list with commas.

    Raises:
        SetupError: one cannot be read, there is none, or one is there twice.
    """
    found: list[Item] = []
    for word in map(str.strip, text.split(",")):
        try:
            item = read(word)
        except ValueError:
            raise SetupError(f"{option}: {word!r} is none", f"takes {takes}, with commas between") from None
        if item in found:
            raise SetupError(f"{option}: {word} is there twice", "name each once")
        found.append(item)
    return tuple(found)


def _length(word: str) -> int:
    return _whole(word, LENGTH_MAX)


def _depth(word: str) -> float:
    return _whole(word, PERCENT) / PERCENT


def _whole(word: str, most: int) -> int:
    # `int` also takes signs, underscores and other scripts' digits.
    if not (word.isascii() and word.isdigit()) or int(word) > most:
        raise ValueError(word)
    return int(word)
