"""Counting without tokenizing: proven bounds, learned intervals, and what happens where a pool's limit lies in one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from cluster.core.prompt import Conversation, CountKind, Prompt, PromptTokens, Texts, TokenIds
from services.gateway.estimate import MAX_LONGEST, read
from services.gateway.tokens import HOPELESS_RATIO, PromptCounter
from tests.small_tokenizer import TEMPLATE, write_model

POOLS = (3_000, 30_000, 250_000)
PROSE = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def counter(model: Path) -> AsyncIterator[PromptCounter]:
    counting = PromptCounter()
    counting.use({"m": model})
    await counting.ready()
    yield counting
    counting.close()


def chat(text: Any, role: str = "user", **more: Any) -> Conversation:
    return Conversation(messages=({"role": role, "content": text, **more},))


def true_tokens(model: Path, *texts: tuple[str, str]) -> int:
    rendered = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in texts) + "<|im_start|>assistant\n"
    return len(Tokenizer.from_file(str(model / "tokenizer.json")).encode(rendered).ids)


async def taught(counter: PromptCounter, model_id: str = "m") -> None:
    for times in range(40, 540, 4):
        prompt = Texts(texts=(PROSE * times,))
        counted = await counter.exact("m", prompt)
        again = counter.quick("other", prompt, (1,))
        assert again is not None
        counter.learn(model_id, PromptTokens(tokens=0, kind=CountKind.ABOUT, features=again.features), counted.tokens)


@pytest.mark.parametrize("roles", ["u", "su", "uau", "suauau", "uuuuuuuu", "ssaa"])
@pytest.mark.parametrize("text", ["", "hi", PROSE * 3, "\u4eca\u5929\u5929\u6c14" * 9, "aB3x" * 50, "\U0001d160" * 9])
async def test_a_short_chat_is_bounded_without_rendering(
    counter: PromptCounter, model: Path, roles: str, text: str
) -> None:
    named = [({"u": "user", "s": "system", "a": "assistant"}[role], text) for role in roles]
    prompt = Conversation(messages=tuple({"role": role, "content": said} for role, said in named))
    counted = counter.quick("m", prompt, POOLS)
    assert counted is not None
    assert counted.kind is CountKind.AT_MOST
    assert true_tokens(model, *named) <= counted.tokens <= POOLS[0]


@pytest.mark.parametrize(
    "prompt",
    [
        chat("hi", role="narrator"),
        chat("hi", name="x" * 5_000),
        Conversation(messages=({"role": "user", "content": "hi"},), template_arguments={"system": "x" * 5_000}),
        Conversation(messages=({"role": "user", "content": "hi"},), tools=({"name": "x" * 50_000},), is_faithful=False),
    ],
)
async def test_what_trials_of_the_template_cannot_speak_for_is_not_bounded(
    counter: PromptCounter, prompt: Conversation
) -> None:
    counted = counter.quick("m", prompt, POOLS)
    assert counted is None or counted.kind is CountKind.ABOUT


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("message.content +", "message.content + message.content +"),
        "{{ raise_exception('no') }}",
        "{{ messages[0].content * 9 }}",
    ],
)
async def test_a_template_that_repeats_or_refuses_gives_no_bound(tmp_path: Path, template: str) -> None:
    counter = PromptCounter()
    counter.use({"m": write_model(tmp_path, template=template)})
    await counter.ready()
    counted = counter.quick("m", chat("hi"), POOLS)
    assert counted is None or counted.kind is CountKind.ABOUT
    counter.close()


async def test_a_bound_on_a_longer_prompt_comes_with_what_is_likely(counter: PromptCounter) -> None:
    dense = counter.quick("m", chat("aB3x" * 5_000), (10**6,))
    prose = counter.quick("m", chat("lazy " * 4_000), (10**6,))
    assert dense is not None
    assert prose is not None
    assert dense.kind is prose.kind is CountKind.AT_MOST
    assert abs(dense.tokens - prose.tokens) <= 1
    assert (prose.expected_tokens or 0) * 2 < (dense.expected_tokens or 0) <= dense.tokens
    assert dense.features is not None


async def test_known_lengths_need_nothing(counter: PromptCounter) -> None:
    empty, ids = counter.quick("m", None, POOLS), counter.quick("m", TokenIds(longest_tokens=77), POOLS)
    assert empty is not None
    assert ids is not None
    assert (empty.tokens, ids.tokens, ids.kind) == (0, 77, CountKind.EXACT)


async def test_a_learned_interval_decides_unless_a_limit_lies_in_it(counter: PromptCounter) -> None:
    prompt = Texts(texts=(PROSE * 480,))
    assert counter.quick("m", prompt, (20_000,)) is None, "nothing is learned: its tokenizer knows better"
    await taught(counter)
    first = counter.quick("m", prompt, (20_000,))
    assert first is not None
    assert first.low_tokens is not None
    assert first.high_tokens is not None
    assert first.expected_tokens is not None
    assert first.low_tokens <= first.expected_tokens <= first.high_tokens == first.tokens
    exact = await counter.exact("m", prompt)
    assert first.low_tokens <= exact.tokens <= first.high_tokens < 1.2 * exact.tokens
    for limit, is_clear in (
        (first.high_tokens, True),
        (first.high_tokens - 1, False),
        (first.low_tokens, False),
        (first.low_tokens - 1, True),
    ):
        assert (counter.quick("m", prompt, (limit, 20_000)) is not None) is is_clear


async def test_near_a_limit_a_sample_may_do_and_else_all_is_counted(counter: PromptCounter, model: Path) -> None:
    text = PROSE * 2_000
    true = true_tokens(model, ("user", text))
    for limit, kind in (
        (int(true * 1.3), CountKind.ABOUT),
        (true, CountKind.EXACT),
        (int(true / 1.3), CountKind.ABOUT),
    ):
        boundaries = (limit, 10**6)
        assert counter.quick("m", chat(text), boundaries) is None
        counted = await counter.exact("m", chat(text), boundaries)
        assert counted.kind is kind
        assert (counted.tokens <= limit) == (true <= limit)
        assert abs((counted.expected_tokens or counted.tokens) - true) <= 0.1 * true
    assert (await counter.exact("m", chat(text))).tokens == true


async def test_too_long_for_every_pool_is_counted_unless_it_is_hopeless(counter: PromptCounter, model: Path) -> None:
    text = PROSE * 2_000
    assert counter.quick("m", chat(text), (7_000,)) is None
    counted = await counter.exact("m", chat(text), (7_000,))
    assert (counted.tokens, counted.kind) == (true_tokens(model, ("user", text)), CountKind.EXACT)
    hopeless = await counter.exact("m", chat(PROSE * 9_000), (7_000,))
    assert hopeless.kind is CountKind.ABOUT
    assert hopeless.tokens > HOPELESS_RATIO * 7_000


async def test_a_model_without_a_tokenizer_is_learned_too(counter: PromptCounter) -> None:
    prompt = Texts(texts=(PROSE * 480,))
    before = counter.quick("none", prompt, POOLS)
    await taught(counter, "none")
    after, exact = counter.quick("none", prompt, POOLS), await counter.exact("m", prompt)
    assert before is not None
    assert after is not None
    assert (before.kind, after.kind) == (CountKind.ABOUT, CountKind.ABOUT)
    assert exact.tokens <= after.tokens < before.tokens
    assert (await counter.exact("none", prompt)).tokens == after.tokens


async def test_without_a_tokenizer_the_largest_pool_is_not_refused_for_the_upper_end_alone(
    counter: PromptCounter,
) -> None:
    prompt = Texts(texts=(PROSE * 1_000,))
    free = counter.quick("none", prompt, (10**6,))
    assert free is not None
    assert free.expected_tokens is not None
    largest = free.expected_tokens + 5
    held, over = counter.quick("none", prompt, (100, largest)), counter.quick("none", prompt, (100, 200))
    assert held is not None
    assert over is not None
    assert (held.tokens, over.tokens) == (largest, free.expected_tokens)


async def test_escapes_of_the_body_do_not_matter_and_written_ones_do(counter: PromptCounter) -> None:
    decoded = counter.quick("none", chat("\u4eca\u5929" * 3_000), (10**6,))
    written = counter.quick("none", chat("\\u4eca\\u5929" * 3_000), (10**6,))
    assert decoded is not None
    assert written is not None
    assert (written.expected_tokens or 0) > 3 * (decoded.expected_tokens or 0)


@pytest.mark.parametrize(
    "prompt",
    [
        chat(
            [{"type": "text", "text": PROSE * 400}, {"type": "image_url", "image_url": {"url": "data:" + "A" * 10**5}}]
        ),
        Texts(texts=(PROSE * 400, PROSE * 390)),
    ],
)
async def test_pictures_and_batches_teach_nothing(counter: PromptCounter, prompt: Prompt) -> None:
    counted = counter.quick("none", prompt, POOLS)
    assert counted is not None
    assert counted.features is None
    assert (counted.expected_tokens or 0) < 10_000


def test_the_texts_of_a_conversation_are_its_content_calls_and_tools() -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": '{"q": "x"}'}}
    prompt = Conversation(
        messages=(
            {"role": "user", "content": [{"type": "text", "text": "one"}, "two"]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "three"},
        ),
        tools=({"type": "function", "function": {"name": "find"}},),
        is_faithful=False,
    )
    readings = read(prompt)
    assert readings is not None
    (reading,) = readings
    assert reading.texts[1:] == ["one", "two", "find", '{"q": "x"}', "three"]
    assert '"name": "find"' in reading.texts[0]
    assert (reading.messages, reading.is_plain, reading.has_media) == (3, False, False)


async def test_of_many_texts_all_that_may_be_the_longest_are_looked_at(counter: PromptCounter) -> None:
    dense, longer = "aB3x" * 1_500, PROSE * 150
    counted = counter.quick("none", Texts(texts=("hi", longer, dense)), (10**6, 3))
    alone = counter.quick("none", Texts(texts=(dense,)), (10**6, 3))
    assert counted is not None
    assert alone is not None
    assert (counted.expected_tokens, counted.tokens) == (alone.expected_tokens, alone.tokens)
    many = Texts(texts=tuple(f"{number} {dense}" for number in range(MAX_LONGEST + 1)))
    assert counter.quick("m", many, (10**6, 3)) is None
    assert (await counter.exact("m", many, (10**6, 3))).kind is CountKind.EXACT
    assert (await counter.exact("none", many, (10**6, 3))).kind is CountKind.ABOUT
