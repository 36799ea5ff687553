"""Verdicts: equal answers or equal accuracy, and conditions that held or did not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.core.errors import SetupError
from loadtest.quality.answered import Asked, Condition, QualityRun
from loadtest.quality.figures import as_json
from loadtest.quality.held import failing
from loadtest.quality.table import sentences
from loadtest.quality.verdict import compare_runs, judge
from tests.quality_runs import asked, quality_run, reply, with_reply

ALL = tuple(Condition)
TWO = (Condition.UNCACHED, Condition.CACHED)


def a_run(count: int = 20, conditions: tuple[Condition, ...] = ALL) -> QualityRun:
    return quality_run(*(asked(number, conditions) for number in range(count)), conditions=conditions)


def changed(run: QualityRun, condition: Condition, numbers: range, **fields: Any) -> QualityRun:
    questions = [
        with_reply(one, condition, **fields) if number in numbers else one for number, one in enumerate(run.asked)
    ]
    return replace(run, asked=tuple(questions))


@pytest.mark.parametrize("is_exact", [True, False])
def test_equal_answers_under_conditions_that_held_pass(is_exact: bool) -> None:
    found = judge(a_run(), is_exact=is_exact)
    assert found.passes
    assert [one.equal for one in found.comparisons] == [20, 20, 20]
    assert not sentences(found)


def test_one_other_token_fails_an_exact_comparison_and_no_other() -> None:
    run = changed(a_run(), Condition.CACHED, range(3, 4), token_ids=(4, 8, 7, 1, 3), text="48713 or so")
    found = judge(run, is_exact=True)
    assert not found.passes
    comparison = found.comparisons[0]
    assert [(one.id, one.place) for one in comparison.splits] == [("needle-english-1000-d50-3", 2)]
    assert "needle-english-1000-d50-3, from token 2 on" in sentences(found)[0]
    assert "48713 or so" in sentences(found)[0]
    assert judge(run, is_exact=False).passes


@pytest.mark.parametrize("ids", [(4, 8, 2, 1), (4, 8, 2, 1, 3, 9), ()])
def test_an_answer_that_ends_elsewhere_is_another(ids: tuple[int, ...]) -> None:
    text = "48213" if ids else "4821"
    run = changed(a_run(2, TWO), Condition.CACHED, range(1), token_ids=ids, text=text)
    assert not judge(run, is_exact=True).passes


def test_texts_are_compared_where_there_are_no_tokens() -> None:
    run = changed(a_run(2, TWO), Condition.CACHED, range(2), token_ids=())
    assert judge(run, is_exact=True).passes
    found = judge(changed(run, Condition.CACHED, range(1), text="48219"), is_exact=True).comparisons[0]
    assert (found.by_tokens, [one.place for one in found.splits]) == (False, [4])


def test_accuracy_that_falls_beyond_its_interval_fails() -> None:
    few = changed(a_run(), Condition.LOADED, range(2), is_right=False, token_ids=(1,), text="no")
    many = changed(a_run(), Condition.LOADED, range(9), is_right=False, token_ids=(1,), text="no")
    assert judge(few, is_exact=False).passes
    found = judge(many, is_exact=False)
    assert not found.passes
    comparison = found.comparisons[-1]
    assert (comparison.pairs.only_first, comparison.pairs.only_second) == (9, 0)
    assert comparison.high < 0
    assert comparison.chance == pytest.approx(2 / 2**9)


@pytest.mark.parametrize("is_exact", [True, False])
def test_a_question_without_an_answer_fails(is_exact: bool) -> None:
    run = changed(a_run(), Condition.CACHED, range(1), error="refused", is_right=False, text="", token_ids=())
    found = judge(run, is_exact=is_exact)
    assert not found.passes
    assert found.comparisons[0].unanswered == ("needle-english-1000-d50-0",)
    assert found.comparisons[0].pairs.count == 19


@pytest.mark.parametrize(
    ("condition", "fields", "numbers", "word"),
    [
        (Condition.UNCACHED, {"cached_tokens": 500}, range(20), "50.0% of the prompts' tokens were cached"),
        (Condition.CACHED, {"cached_tokens": 0}, range(20), "0.0% of the prompts' tokens were cached"),
        (Condition.SINGLE, {"replica": "r8"}, range(1), "2 replicas"),
        (Condition.UNCACHED, {"pool": "long"}, range(20), "1 pools"),
        (Condition.LOADED, {"beside": 0}, range(3), "3 of 20 answers"),
        (Condition.LOADED, {"error": "refused"}, range(20), "nothing was answered"),
    ],
)
def test_a_condition_that_did_not_hold_is_told(
    condition: Condition, fields: dict[str, Any], numbers: range, word: str
) -> None:
    found = judge(changed(a_run(), condition, numbers, **fields), is_exact=True)
    assert not found.passes
    assert any(word in sentence for sentence in sentences(found)), sentences(found)


def test_a_condition_holds_but_for_a_little() -> None:
    run = changed(a_run(), Condition.LOADED, range(2), beside=0)
    assert not failing(changed(run, Condition.UNCACHED, range(20), cached_tokens=16), Condition.UNCACHED)
    assert not failing(run, Condition.LOADED)


def test_runs_of_one_set_are_compared_by_their_first_conditions() -> None:
    here, there = a_run(4, TWO), a_run(4, (Condition.LOADED,))
    found = compare_runs(here, there, ("before", "after"), is_exact=True)
    assert found.agrees
    assert (found.first, found.second) == ("before: uncached", "after: loaded")
    other = changed(there, Condition.LOADED, range(1), token_ids=(1,))
    assert not compare_runs(here, other, ("before", "after"), is_exact=True).agrees


def _less(run: QualityRun) -> QualityRun:
    return replace(run, asked=run.asked[1:])


def _otherwise(run: QualityRun) -> QualityRun:
    first: Asked = replace(run.asked[0], digest="ff")
    return replace(run, asked=(first, *run.asked[1:]))


@pytest.mark.parametrize("change", [_less, _otherwise])
def test_runs_of_different_sets_are_not_compared(change: Callable[[QualityRun], QualityRun]) -> None:
    run = a_run(4, TWO)
    for first, second in ((run, change(run)), (change(run), run)):
        with pytest.raises(SetupError, match="different questions, as needle-english-1000-d50-0"):
            compare_runs(first, second, ("a", "b"), is_exact=True)


def test_figures_for_programs() -> None:
    run = changed(a_run(), Condition.LOADED, range(5), is_right=False, beside=0)
    told = as_json(run, judge(run, is_exact=False))
    assert told["passes"] is False
    assert told["conditions"]["uncached"]["accuracy"] == 1
    assert (told["conditions"]["loaded"]["right"], told["conditions"]["loaded"]["questions"]) == (15, 20)
    assert told["conditions"]["loaded"]["failings"]
    assert told["conditions"]["loaded"]["groups"][0] | {"low": 0, "high": 0} == {
        "kind": "needle", "language": "english", "prompt_tokens": 1_000, "depth": 0.5,
        "questions": 20, "right": 15, "accuracy": 0.75, "low": 0, "high": 0,
    }  # fmt: skip
    assert [one["second"] for one in told["comparisons"]] == ["cached", "single", "loaded"]
    assert told["comparisons"][2]["difference"] == -0.25


def test_a_single_replica_need_not_name_itself() -> None:
    run = a_run()
    for number in range(20):
        run = changed(run, Condition.SINGLE, range(number, number + 1), replica="", pool="")
    assert not failing(run, Condition.SINGLE)
    assert reply().replica
