"""Which answers are under way, by replica."""

from __future__ import annotations

from typing import cast

from cluster.core.lease import ReplicaId
from services.gateway.open_answers import Answer, OpenAnswers

ONE, TWO = ReplicaId("one"), ReplicaId("two")


def answer() -> Answer:
    return cast("Answer", object())


def test_answers_are_found_by_their_replica_in_their_order() -> None:
    answers, first, second, other = OpenAnswers(), answer(), answer(), answer()
    answers.opened(ONE, first)
    answers.opened(TWO, other)
    answers.opened(ONE, second)
    assert answers.of(ONE) == (first, second)
    assert answers.of(TWO) == (other,)


def test_nothing_is_kept_of_a_replica_whose_answers_have_ended() -> None:
    answers, one = OpenAnswers(), answer()
    answers.opened(ONE, one)
    answers.ended(TWO, one)
    assert answers.of(ONE) == (one,)
    answers.ended(ONE, one)
    answers.ended(ONE, one)
    assert answers.of(ONE) == ()
    assert not answers._answers


def test_whoever_goes_through_them_may_end_them() -> None:
    answers = OpenAnswers()
    for _ in range(3):
        answers.opened(ONE, answer())
    for one in answers.of(ONE):
        answers.ended(ONE, one)
    assert answers.of(ONE) == ()
