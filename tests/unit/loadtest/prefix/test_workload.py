"""The workload: the same for a seed, no prefix shared between runs, and turns handed out as they may be asked."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtest.prefix.workload import Schedule, Shape, conversations, document, order, words

SHAPE = Shape(tenants=3, conversations=2, turns=3, document_words=40, turn_words=5)


def talks(seed: int = 1, run: str = "a") -> list[tuple[str, str, tuple[str, ...], str]]:
    made = conversations(SHAPE, seed=seed, run=run)
    return [(talk.name, talk.tenant, talk.questions, talk.messages[0]["content"]) for talk in made]


def test_a_seed_says_everything() -> None:
    assert talks() == talks()
    assert order(SHAPE, seed=1) == order(SHAPE, seed=1)
    assert talks() != talks(seed=2)
    assert order(SHAPE, seed=1) != order(SHAPE, seed=2)


def test_runs_differ_in_a_number_at_the_start_and_in_nothing_else() -> None:
    for one, other in zip(talks(run="a"), talks(run="b"), strict=True):
        assert one[:3] == other[:3]
        assert len(one[3]) == len(other[3])
        assert one[3].partition("\n")[0] != other[3].partition("\n")[0]
        assert one[3].partition("\n")[2] == other[3].partition("\n")[2]


def test_a_tenants_conversations_share_its_document_and_no_other_tenants() -> None:
    documents: dict[str, set[str]] = {}
    for _, tenant, _, system in talks():
        documents.setdefault(tenant, set()).add(system)
    assert [len(found) for found in documents.values()] == [1, 1, 1]
    assert len(set.union(*documents.values())) == 3


def test_every_turn_comes_once() -> None:
    assert Counter(order(SHAPE, seed=3)) == dict.fromkeys(range(6), 3)
    assert SHAPE.requests == 18


def test_a_conversation_grows_by_question_and_answer() -> None:
    talk = conversations(SHAPE, seed=1, run="a")[0]
    first = talk.ask()
    talk.answered("Yes.")
    second = talk.ask()
    assert second[: len(first)] == first
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[2]["content"] == "Yes."


def test_words_are_counted() -> None:
    import random

    assert len(words(random.Random(1), 50).split()) == 50
    assert len(document(random.Random(1), 50, edition="x").split()) == 52


def test_a_tenants_first_turn_goes_alone() -> None:
    schedule = Schedule([0, 1, 2, 0], ["a", "a", "b"])
    assert schedule.take() == 0
    assert schedule.take() == 2
    assert schedule.take() is None
    schedule.done(0)
    assert schedule.take() == 1
    assert schedule.take() == 0
    assert schedule.take() is None
    assert len(schedule) == 0


def test_a_conversation_has_one_turn_under_way() -> None:
    schedule = Schedule([0, 0, 0], ["a"])
    assert schedule.take() == 0
    assert schedule.take() is None
    schedule.done(0)
    assert schedule.take() == 0
    assert schedule.take() is None


@pytest.mark.parametrize("askers", [1, 2, 5])
def test_every_schedule_comes_to_its_end(askers: int) -> None:
    shape = Shape(tenants=3, conversations=2, turns=4)
    tenants = [talk.tenant for talk in conversations(shape, seed=1, run="a")]
    schedule = Schedule(order(shape, seed=7), tenants)
    busy: list[int] = []
    taken: list[int] = []
    while len(schedule) or busy:
        while len(busy) < askers and (place := schedule.take()) is not None:
            busy.append(place)
            taken.append(place)
        schedule.done(busy.pop(0))
    assert Counter(taken) == dict.fromkeys(range(6), 4)
    if askers == 1:
        assert taken == order(shape, seed=7)
