"""Answers against undisturbed ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.judge import judge
from loadtest.chaos.kinds import KINDS

PLAIN = KINDS[0]
JSON = next(kind for kind in KINDS if kind.is_json)


def answer(ids: list[int], *, end: End = End.COMPLETE, text: str = "", **more: object) -> Answer:
    told = Answer(kind="any", sent_s=0.0, ids=ids, end=end, text=text, finish="stop", output_tokens=len(ids))
    return replace(told, **more)  # type: ignore[arg-type]


WHOLE = answer([1, 2, 3, 4, 5], text='{"a": 1}')


def test_the_same_is_right() -> None:
    assert judge(WHOLE, WHOLE, JSON).is_right


@pytest.mark.parametrize(
    ("ids", "missing", "extra"),
    [([1, 2, 4, 5], 1, 0), ([1, 2, 3, 3, 4, 5], 0, 1), ([1, 2, 3, 4, 9], 1, 1), ([], 5, 0)],
)
def test_tokens_are_counted(ids: list[int], missing: int, extra: int) -> None:
    verdict = judge(answer(ids, text=WHOLE.text), WHOLE, PLAIN)
    assert (verdict.missing_tokens, verdict.duplicated_tokens) == (missing, extra)
    assert verdict.wrong
    assert not verdict.is_right


@pytest.mark.parametrize("field", [{"text": "other"}, {"finish": "length"}, {"output_tokens": 6}])
def test_other_parts_make_it_wrong(field: dict[str, object]) -> None:
    verdict = judge(replace(WHOLE, **field), WHOLE, PLAIN)  # type: ignore[arg-type]
    assert (verdict.wrong, verdict.missing_tokens, verdict.duplicated_tokens) == (True, 0, 0)
    assert next(iter(field)) in verdict.why


@pytest.mark.parametrize(("text", "is_invalid"), [('{"a": 1', True), ('{"a": 1}', False)])
def test_json_has_to_parse_where_it_was_asked_for(text: str, is_invalid: bool) -> None:
    assert judge(answer([1], text=text), WHOLE, JSON).invalid_json is is_invalid
    assert not judge(answer([1], text=text), WHOLE, PLAIN).invalid_json


@pytest.mark.parametrize("end", [End.BROKEN, End.FAILED, End.UNCONNECTED, End.LATE])
def test_what_does_not_end_well_is_lost(end: End) -> None:
    verdict = judge(answer([1, 2], end=end), WHOLE, JSON)
    assert (verdict.lost, verdict.refused, verdict.wrong, verdict.missing_tokens) == (True, False, False, 0)


def test_tokens_that_came_before_a_loss_must_be_right() -> None:
    assert judge(answer([1, 1], end=End.BROKEN), WHOLE, PLAIN).duplicated_tokens == 1


def test_a_refusal_is_no_loss() -> None:
    verdict = judge(answer([], end=End.REFUSED), WHOLE, PLAIN)
    assert (verdict.lost, verdict.refused, verdict.is_right) == (False, True, False)
