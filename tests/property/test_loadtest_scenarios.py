"""Every scenario: the same sessions for a seed, made when asked for, none longer than the server's context."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.models.tiny import write_small_files
from loadtest.plan import Kind, Session
from loadtest.scenarios import Context, Scenario, list_scenarios
from loadtest.text import Writer, load_writer
from services.gateway.tokenizer import Counting, load_counting
from tests.loadtest_runs import first_prompt_tokens

SCENARIOS = list_scenarios()
CONTEXTS = st.sampled_from([512, 2_048, 8_192, 32_768, 262_144])
ANSWER_GROWTH = 1.1
"""What an answer's text has at most, as more tokens than were generated (see scenarios/sizes.py)."""


class Model(NamedTuple):
    writer: Writer
    counting: Counting


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    write_small_files(folder)
    counting = load_counting(folder)
    assert counting is not None
    return Model(load_writer(folder), counting)


def made(scenario: Scenario, context: Context, most: int) -> list[Session]:
    options = scenario.read_options(["requests=20"] if scenario.name == "trace" else [])
    due_s = options.due_s(context) or (place / 4 for place in count())
    return list(islice(scenario.sessions(options, due_s, context), most))


@settings(max_examples=10)
@given(CONTEXTS, st.integers(0, 2**32))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_seed_says_everything(model: Model, scenario: Scenario, context_tokens: int, seed: int) -> None:
    context = Context(seed=seed, context_tokens=context_tokens, writer=model.writer)
    first, again = made(scenario, context, 4), made(scenario, context, 4)
    assert first == again
    assert len(first) == 4
    # Another salt, other words: lengths, times and labels stay.
    other = made(scenario, Context(seed=seed, context_tokens=context_tokens, writer=model.writer, salt="b"), 4)
    assert [(one.at_s, one.label, len(one.turns)) for one in other] == [
        (one.at_s, one.label, len(one.turns)) for one in first
    ]
    assert all(one.turns[0].text != two.turns[0].text for one, two in zip(first, other, strict=True))


@settings(max_examples=10)
@given(CONTEXTS, st.integers(0, 2**32))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_request_is_longer_than_the_context(
    model: Model, scenario: Scenario, context_tokens: int, seed: int
) -> None:
    context = Context(seed=seed, context_tokens=context_tokens, writer=model.writer)
    wrapping = model.writer.wrapping
    for session in made(scenario, context, 3):
        planned = prompt = first_prompt_tokens(session, model.counting)
        for place, turn in enumerate(session.turns):
            if place:
                answer = math.ceil(session.turns[place - 1].output_tokens * ANSWER_GROWTH)
                more = wrapping.turn_tokens + model.counting.exact(turn.text, add_special_tokens=False)
                prompt += answer + more
                planned += session.turns[place - 1].output_tokens + more
            assert turn.prompt_tokens == planned
            assert turn.output_tokens >= 1
            assert prompt + turn.output_tokens <= context_tokens


@settings(max_examples=10)
@given(st.integers(1, 5_000), st.sampled_from(["english", "chinese", "both"]), st.integers(0, 2**32))
def test_prompts_have_the_tokens_that_were_set(model: Model, tokens: int, language: str, seed: int) -> None:
    context = Context(seed=seed, context_tokens=8_192, writer=model.writer)
    scenario = next(one for one in SCENARIOS if one.name == "ramp")
    options = scenario.read_options([f"prompt_tokens={tokens}", f"language={language}"])
    least = model.writer.wrapping.chat_tokens + 1
    for session in islice(scenario.sessions(options, map(float, count()), context), 2):
        assert first_prompt_tokens(session, model.counting) == max(tokens, least)


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from(Kind),
    st.data(),
)
def test_a_replayed_trace_shares_prefixes_and_has_its_tokens(
    model: Model,
    tmp_path_factory: pytest.TempPathFactory,
    prompts: list[list[int]],
    kind: Kind,
    data: st.DataObject,
) -> None:
    rows = []
    for place, ids in enumerate(prompts):
        tokens = data.draw(st.integers((len(ids) - 1) * 512 + 40, len(ids) * 512))
        rows.append(f'{{"timestamp":{place * 1000},"input_length":{tokens},"output_length":9,"hash_ids":{ids}}}')
    file = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    scenario = next(one for one in SCENARIOS if one.name == "trace")
    options = scenario.read_options([f"file={file}", f"kind={kind}"])
    context = Context(seed=1, context_tokens=8_192, writer=model.writer)
    due_s = options.due_s(context)
    assert due_s is not None
    sessions = list(scenario.sessions(options, due_s, context))
    assert [session.at_s for session in sessions] == [float(place) for place in range(len(prompts))]
    for row, session in zip(rows, sessions, strict=True):
        assert f'"input_length":{first_prompt_tokens(session, model.counting)},' in row
    around = model.writer.wrapping.chat_tokens if kind is Kind.CHAT else 0
    for ids, session in zip(prompts, sessions, strict=True):
        for others, other in zip(prompts, sessions, strict=True):
            shared = next((at for at, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), None)
            words, theirs = session.turns[0].text.split(), other.turns[0].text.split()
            both = min(len(words), len(theirs))
            same = next((at for at, (a, b) in enumerate(zip(words, theirs, strict=False)) if a != b), both)
            # What the trace shares is equal; where it stops, words soon differ.
            wanted = both if shared is None else min(shared * 512, both)
            assert same >= wanted
            assert same - wanted <= (min(8, both - wanted)) + around


def test_sessions_are_made_when_they_are_asked_for(model: Model) -> None:
    taken: list[float] = []

    def due_s() -> Iterator[float]:
        for at_s in map(float, count()):
            taken.append(at_s)
            yield at_s

    context = Context(seed=1, context_tokens=32_768, writer=model.writer)
    for scenario in SCENARIOS:
        taken.clear()
        options = scenario.read_options([])
        assert list(islice(scenario.sessions(options, due_s(), context), 2))[1].at_s == taken[-1]
        assert len(taken) == 2


def test_the_end_of_due_times_is_the_end(model: Model) -> None:
    context = Context(seed=1, context_tokens=32_768, writer=model.writer)
    for scenario in SCENARIOS:
        sessions = list(scenario.sessions(scenario.read_options([]), iter([0.0, 1.0, 2.0]), context))
        assert [session.at_s for session in sessions] == [0.0, 1.0, 2.0]
