"""Question sets: exact, repeatable, the facts where they should be, and one right answer."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan import Session, Turn
from loadtest.quality.kinds import COUNTS
from loadtest.quality.phrases import PHRASES
from loadtest.quality.question import Language, Question, QuestionKind
from loadtest.quality.question_set import LENGTH_MIN, SetOptions, fitted, make_set
from loadtest.quality.scoring import is_right, units
from loadtest.scenarios import Context
from loadtest.text import load_writer, ratio_writer
from services.gateway.tokenizer import Counting, load_counting
from tests.loadtest_runs import first_prompt_tokens, tokenizer_folder

SALTS = st.text("abcdef", min_size=1, max_size=4)


class Model(NamedTuple):
    context: Context
    counting: Counting

    def tokens(self, text: str) -> int:
        return self.counting.exact(text, add_special_tokens=False)


@pytest.fixture(scope="module", params=["tiny", "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tokenizer_folder(request.param, tmp_path_factory)
    counting = load_counting(folder)
    assert counting is not None
    context = Context(seed=1, context_tokens=32_768, writer=load_writer(folder), salt="salt")
    return Model(context, counting)


@st.composite
def options(draw: st.DrawFn) -> SetOptions:
    """A set of a few questions."""
    return SetOptions(
        lengths=(draw(st.integers(LENGTH_MIN, 3_000)),),
        depths=(draw(st.integers(0, 100)) / 100,),
        kinds=(draw(st.sampled_from(QuestionKind)),),
        languages=(draw(st.sampled_from(Language)),),
        repeats=draw(st.integers(1, 2)),
    )


def document(question: Question) -> str:
    """Without what is asked at its end."""
    return question.text.rpartition("\n\n")[0]


def said(text: str, form: str) -> int:
    """How often a text has this answer, as scoring looks for it."""
    told, wanted = units(text), units(form)
    return sum(told[place : place + len(wanted)] == wanted for place in range(len(told)))


@settings(max_examples=60)
@given(options(), st.integers(0, 2**32), SALTS)
def test_prompts_have_their_tokens(model: Model, asked: SetOptions, seed: int, salt: str) -> None:
    for question in make_set(asked, replace(model.context, seed=seed, salt=salt)):
        session = Session(at_s=0.0, turns=(Turn(text=question.text, output_tokens=1),))
        assert first_prompt_tokens(session, model.counting) == question.prompt_tokens


@settings(max_examples=60)
@given(options(), st.integers(0, 2**32))
def test_facts_are_at_their_depth(model: Model, asked: SetOptions, seed: int) -> None:
    for question in make_set(asked, replace(model.context, seed=seed)):
        text, filler = document(question), []
        for fact in question.facts:
            before, found, text = text.partition(fact)
            assert found, "the facts are there, in order"
            filler.append(model.tokens(before))
        every = sum(filler) + model.tokens(text)
        if question.depth is None:
            continue
        # The fact that is asked for is the one of a needle; of a join it is somewhere among others.
        places = [sum(filler[: number + 1]) / every for number in range(len(filler))]
        # Filler before a fact may end in pieces that another fact cut: three tokens, of which a rounding has one.
        assert min(abs(place - question.depth) for place in places) <= 3 / every


@settings(max_examples=60)
@given(options(), st.integers(0, 2**32))
def test_there_is_one_right_answer(model: Model, asked: SetOptions, seed: int) -> None:
    for question in make_set(asked, replace(model.context, seed=seed)):
        text = document(question)
        if question.kind is QuestionKind.COUNT:
            assert not any(said(text, form) for form in (*question.right, *question.wrong))
            place = next(name for name in PHRASES[question.language].places if name in question.facts[0])
            assert said(text, place) == len(question.facts)
            assert len(question.facts) in COUNTS
            assert question.right == PHRASES[question.language].numbers[len(question.facts)]
        else:
            assert [said(text, form) for form in question.right] == [1]
            # What leads astray is there, too: it is not told apart by being absent.
            assert all(said(text, form) == 1 for form in question.wrong)


@settings(max_examples=40)
@given(options(), st.integers(0, 2**32), SALTS, SALTS)
def test_seed_and_salt_say_everything(model: Model, asked: SetOptions, seed: int, one: str, other: str) -> None:
    here = [*make_set(asked, replace(model.context, seed=seed, salt=one))]
    assert here == [*make_set(asked, replace(model.context, seed=seed, salt=one))]
    there = [*make_set(asked, replace(model.context, seed=seed, salt=other))]
    assert [replace(question, text="") for question in here] == [replace(question, text="") for question in there]
    if one != other:
        assert all(first.digest != second.digest for first, second in zip(here, there, strict=True))


def test_a_set_has_what_was_asked_for(model: Model) -> None:
    asked = SetOptions(lengths=(600, 1_000), depths=(0.0, 0.5, 1.0), repeats=2)
    questions = [*make_set(asked, model.context)]
    assert len(questions) == 2 * 4 * 2 * 3 * 2
    assert len({question.id for question in questions}) == len(questions)
    assert [question.prompt_tokens for question in questions] == [600] * 48 + [1_000] * 48
    assert "needle-english-600-d50-1" in {question.id for question in questions}
    # No prompt is the beginning of another's: else the second would be found in the cache.
    assert len({question.text[:60] for question in questions}) == len(questions)
    counts = {len(one.facts) for one in questions if one.kind is QuestionKind.COUNT}
    assert len(counts) > 1, "who always answers the same must not be right"


def test_a_joins_facts_are_far_apart(model: Model) -> None:
    asked = SetOptions(lengths=(2_000,), kinds=(QuestionKind.JOIN,), languages=(Language.ENGLISH,))
    for question in make_set(asked, model.context):
        person = question.text.partition(f" lives in {question.right[0]}.")[0].rpartition(". ")[2]
        person = " ".join(person.split()[-2:])
        holder, home = (question.text.index(text) for text in (f"is held by {person}", f"{person} lives in"))
        assert abs(holder - home) > 0.4 * len(question.text)


@settings(max_examples=60)
@given(options(), st.integers(0, 2**32))
def test_only_the_right_answer_is_right(model: Model, asked: SetOptions, seed: int) -> None:
    for question in make_set(asked, replace(model.context, seed=seed)):
        for form in question.right:
            assert is_right(question, form)
            assert is_right(question, f"It is **{form.upper()}**.")
            assert not any(is_right(question, f"{form}, {wrong}") for wrong in question.wrong)
        assert not any(is_right(question, wrong) for wrong in question.wrong)
        assert not is_right(question, "")


def test_without_a_tokenizer_lengths_are_near_and_english(model: Model) -> None:
    context = replace(model.context, writer=ratio_writer([(50, 60), (400, 410)]))
    asked, notes = fitted(SetOptions(lengths=(1_000, 40_000), depths=(0.5,)), context)
    assert asked.languages == (Language.ENGLISH,)
    assert asked.lengths == (1_000,)
    assert ["40,000" in note or "chinese" in note for note in notes] == [True, True]
    for question in make_set(asked, context):
        assert model.tokens(question.text) == pytest.approx(1_000, rel=0.1)
