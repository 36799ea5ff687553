"""Texts have exactly the tokens that were asked for, by the models' own tokenizers and templates."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.prompt import Conversation
from loadtest.text import Style, Writer, load_writer
from services.gateway.tokenizer import Counting, load_counting
from tests.loadtest_runs import tokenizer_folder


class Model(NamedTuple):
    writer: Writer
    counting: Counting


@pytest.fixture(scope="module", params=["tiny", "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tokenizer_folder(request.param, tmp_path_factory)
    counting = load_counting(folder)
    assert counting is not None
    return Model(load_writer(folder), counting)


@settings(max_examples=60)
@given(st.integers(1, 3_000), st.sampled_from(Style), st.integers(0, 2**32))
def test_a_text_has_its_tokens(model: Model, tokens: int, style: Style, seed: int) -> None:
    text = model.writer.text(random.Random(seed), tokens, style)
    assert model.counting.exact(text, add_special_tokens=False) == tokens


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(1, 400)),
    st.sampled_from(Style),
    st.integers(0, 2**32),
)
def test_a_conversation_has_its_texts_and_what_the_template_adds(
    model: Model, turns: list[int], system: int | None, style: Style, seed: int
) -> None:
    rng, writer = random.Random(seed), model.writer
    messages = [] if system is None else [{"role": "system", "content": writer.text(rng, system, style)}]
    answers = 0
    for place, tokens in enumerate(turns):
        if place:
            messages.append({"role": "assistant", "content": writer.text(rng, 7)})
            answers += 7
        messages.append({"role": "user", "content": writer.text(rng, tokens, style)})
    prompt = model.counting.rendered(
        Conversation(messages=tuple(messages), template_arguments={"add_generation_prompt": True})
    )
    assert prompt is not None
    around = writer.wrapping.around(has_system=system is not None, turns=len(turns))
    assert model.counting.longest(prompt) == around + sum(turns) + (system or 0) + answers


@settings(max_examples=40)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 2**32))
def test_words_can_be_joined_anywhere(model: Model, counts: list[int], seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(piece for count in counts for piece in model.writer.words(rng, count))
    assert model.counting.exact(text, add_special_tokens=False) == sum(counts)
