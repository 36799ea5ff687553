"""What a set is to have, as a command line says it."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.core.errors import SetupError
from loadtest.quality.answered import Condition
from loadtest.quality.options import read_conditions, read_set
from loadtest.quality.question import Language, QuestionKind

USUAL: dict[str, Any] = {
    "lengths": "1024, 2048",
    "depths": "0,50,100",
    "kinds": "needle,count",
    "languages": "chinese",
    "repeats": 2,
    "output_tokens": 16,
}


def test_lists_are_read() -> None:
    found = read_set(**USUAL)
    assert (found.lengths, found.depths) == ((1_024, 2_048), (0.0, 0.5, 1.0))
    assert found.kinds == (QuestionKind.NEEDLE, QuestionKind.COUNT)
    assert (found.languages, found.repeats, found.output_tokens) == ((Language.CHINESE,), 2, 16)
    assert read_conditions("loaded,cached") == (Condition.LOADED, Condition.CACHED)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("lengths", ""),
        ("lengths", "1k"),
        ("lengths", "-5"),
        ("lengths", "1_000"),
        ("lengths", "99999999999"),
        ("lengths", "1024,1024"),
        ("depths", "101"),
        ("depths", "0.5"),
        ("kinds", "riddle"),
        ("languages", "english,english"),
    ],
)
def test_mistakes_name_their_option(option: str, text: str) -> None:
    with pytest.raises(SetupError, match=f"--{option}: "):
        read_set(**USUAL | {option: text})


@pytest.mark.parametrize("text", ["", "warm", "cached,cached"])
def test_conditions_are_known_and_once_each(text: str) -> None:
    with pytest.raises(SetupError, match="--conditions: "):
        read_conditions(text)
