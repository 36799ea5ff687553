"""Sums over the answers of one fault."""

from __future__ import annotations

from dataclasses import replace

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.kinds import KINDS
from loadtest.chaos.outcome import Outcome, outcome_of

KIND = KINDS[0].name
EXPECTED = Answer(kind=KIND, sent_s=0.0, ids=[1, 2], end=End.COMPLETE, text="ab", finish="stop", output_tokens=2)


def of(*answers: Answer) -> Outcome:
    return outcome_of("any", answers, {KIND: EXPECTED}, broken_s=10.0, recovered_s=3.0, seen=())


def test_nothing_wrong_is_clean() -> None:
    found = of(EXPECTED, EXPECTED)
    assert (found.requests, found.is_clean, found.examples) == (2, True, ())


def test_each_failing_counts_and_is_named() -> None:
    lost = replace(EXPECTED, end=End.BROKEN, detail="reset")
    found = of(EXPECTED, lost, lost, replace(EXPECTED, text="x"))
    assert (found.lost, found.wrong, found.refused, found.is_clean) == (2, 1, 0, False)
    assert found.examples == (f"{KIND}: broken: reset (2)", f"{KIND}: other text")


def test_gaps_before_and_after_the_fault_are_told_apart() -> None:
    before = replace(EXPECTED, longest_gap_s=0.2, longest_gap_at_s=5.0)
    after = replace(EXPECTED, longest_gap_s=2.0, longest_gap_at_s=12.0)
    found = of(before, after, replace(after, end=End.BROKEN, longest_gap_s=9.0))
    assert (found.usual_gap_s, found.longest_gap_s) == (0.2, 2.0)


def test_first_tokens_before_and_after_the_fault_are_told_apart() -> None:
    answers = [replace(EXPECTED, sent_s=sent_s, first_s=sent_s + 0.01 * sent_s) for sent_s in range(1, 30)]
    found = of(*answers)
    assert (round(found.usual_ttft_p95_s, 2), round(found.ttft_p95_s, 2)) == (0.09, 0.29)


def test_pieces_make_gaps() -> None:
    answer = Answer(kind=KIND, sent_s=0.0)
    for now_s, ids in ((1.0, [1]), (1.5, [2]), (4.0, [3]), (4.1, [])):
        answer.came(now_s, ids, "x")
    assert (answer.first_s, answer.longest_gap_s, answer.longest_gap_at_s) == (1.0, 2.5, 4.0)
    assert (answer.ids, answer.text) == ([1, 2, 3], "xxxx")


def test_asking_again_is_counted() -> None:
    assert of(EXPECTED, replace(EXPECTED, attempts=3)).asked_again == 1
