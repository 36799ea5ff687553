"""Answers as models give them: which are right."""

from __future__ import annotations

import pytest

from loadtest.quality.question import Language, Question, QuestionKind
from loadtest.quality.scoring import is_right


def question(*right: str, wrong: tuple[str, ...] = ()) -> Question:
    return Question(
        id="x",
        kind=QuestionKind.NEEDLE,
        language=Language.ENGLISH,
        prompt_tokens=1,
        depth=None,
        text="",
        facts=(),
        right=right,
        wrong=wrong,
    )


@pytest.mark.parametrize(
    "answer",
    ["48213", " 48213\n", "The code is 48213.", "**48213**", "密码是48213。", "４８２１３", "code:48213, I think"],  # noqa: RUF001
)
def test_right_numbers(answer: str) -> None:
    assert is_right(question("48213"), answer)


@pytest.mark.parametrize("answer", ["", "4821", "148213", "482130", "48,213", "4 8 2 1 3", "x48213"])
def test_wrong_numbers(answer: str) -> None:
    assert not is_right(question("48213"), answer)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("布拉格", True), ("她住在布拉格。", True), ("布 拉 格", True), ("布拉", False), ("里斯本和布拉格", False)],
)
def test_chinese_names(answer: str, right: bool) -> None:
    assert is_right(question("布拉格", wrong=("里斯本",)), answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("three", True),
        ("3 times", True),
        ("Three.", True),
        ("threefold", False),
        ("two or three", False),
        ("3 or 4", False),
    ],
)
def test_numbers_have_several_forms(answer: str, right: bool) -> None:
    assert is_right(question("3", "three", wrong=("2", "two", "4", "four")), answer) is right
