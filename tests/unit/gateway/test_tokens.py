"""Counting prompts: exact where it must be, bounded where that is enough, estimated where nothing better is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from cluster.core.prompt import Conversation, CountKind, Prompt, PromptTokens, Texts, TokenIds
from services.gateway.tokenizer import Counting
from services.gateway.tokens import PromptCounter
from tests.small_tokenizer import SAMPLES, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
async def counter(model: Path) -> AsyncIterator[PromptCounter]:
    counting = PromptCounter()
    counting.use({"m": model})
    await counting.ready()
    yield counting
    counting.close()


async def count(counter: PromptCounter, model_id: str, prompt: Prompt | None, *, enough_tokens: int) -> PromptTokens:
    """The proven bound where it is within `enough_tokens`, else the exact length where it can be had."""
    known = counter.quick(model_id, prompt, (enough_tokens,))
    return await counter.exact(model_id, prompt) if known is None or known.kind is CountKind.ABOUT else known


def chat(text: str) -> Conversation:
    return Conversation(messages=({"role": "user", "content": text},))


@pytest.mark.parametrize("text", SAMPLES)
async def test_exact_counts_are_the_tokenizers_and_bounds_lie_over_them(
    counter: PromptCounter, model: Path, text: str
) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    plain = len(tokenizer.encode(text).ids)
    rendered = len(tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n").ids)
    exact = await count(counter, "m", Texts(texts=(text,)), enough_tokens=0)
    exact_chat = await count(counter, "m", chat(text), enough_tokens=0)
    bound = await count(counter, "m", chat(text), enough_tokens=10**9)
    assert (exact.tokens, exact.kind) == (plain, CountKind.EXACT)
    assert (exact_chat.tokens, exact_chat.kind) == (rendered, CountKind.EXACT)
    assert bound.kind is CountKind.AT_MOST
    assert bound.tokens >= rendered


async def test_a_bound_is_given_only_where_it_is_within_enough(counter: PromptCounter) -> None:
    text = SAMPLES[0]
    bound = (await count(counter, "m", chat(text), enough_tokens=10**9)).tokens
    at = await count(counter, "m", chat(text), enough_tokens=bound)
    under = await count(counter, "m", chat(text), enough_tokens=bound - 1)
    assert (at.kind, under.kind) == (CountKind.AT_MOST, CountKind.EXACT)


async def test_the_longest_of_several_texts_counts(counter: PromptCounter) -> None:
    alone = [(await count(counter, "m", Texts(texts=(text,)), enough_tokens=0)).tokens for text in SAMPLES]
    together = await count(counter, "m", Texts(texts=tuple(SAMPLES)), enough_tokens=0)
    assert together.tokens == max(alone)


async def test_token_ids_are_counted_and_no_prompt_is_empty(counter: PromptCounter) -> None:
    assert (await count(counter, "m", TokenIds(longest_tokens=77), enough_tokens=0)).tokens == 77
    assert (await count(counter, "m", None, enough_tokens=0)).tokens == 0


async def test_without_a_tokenizer_it_is_an_estimate(counter: PromptCounter, tmp_path: Path) -> None:
    unknown = await count(counter, "other", chat("word " * 600), enough_tokens=0)
    assert unknown.kind is CountKind.ABOUT
    assert unknown.expected_tokens is not None
    assert unknown.low_tokens is not None
    assert unknown.low_tokens < 606 < unknown.tokens
    assert 500 < unknown.expected_tokens < 700
    empty = PromptCounter()
    empty.use({"m": tmp_path})
    assert (await count(empty, "m", chat("hi"), enough_tokens=0)).kind is CountKind.ABOUT
    empty.close()


async def test_a_conversation_the_template_refuses_is_an_estimate(tmp_path: Path) -> None:
    folder = write_model(tmp_path, template="{{ raise_exception('roles must alternate') }}")
    counter = PromptCounter()
    counter.use({"m": folder})
    assert (await count(counter, "m", chat("hi"), enough_tokens=0)).kind is CountKind.ABOUT
    counter.close()


async def test_a_converted_conversation_is_about(counter: PromptCounter) -> None:
    converted = Conversation(messages=({"role": "user", "content": SAMPLES[0]},), is_faithful=False)
    assert (await count(counter, "m", converted, enough_tokens=0)).kind is CountKind.ABOUT


async def test_unicode_normalization_keeps_the_bound_a_bound(tmp_path: Path) -> None:
    folder = write_model(tmp_path, nfc=True)
    counter = PromptCounter()
    counter.use({"m": folder})
    await counter.ready()
    growing = "\U0001d160\u0958\ufb2c" * 30
    bound = await count(counter, "m", Texts(texts=(growing,)), enough_tokens=10**9)
    exact = await count(counter, "m", Texts(texts=(growing,)), enough_tokens=0)
    assert bound.kind is CountKind.AT_MOST
    assert bound.tokens >= exact.tokens > len(growing.encode())
    counter.close()


@pytest.mark.alone
async def test_a_long_prompt_leaves_the_event_loop_free(counter: PromptCounter) -> None:
    counting = asyncio.create_task(count(counter, "m", chat(SAMPLES[0] * 400), enough_tokens=0))
    longest, last = 0.0, asyncio.get_running_loop().time()
    while not counting.done():
        await asyncio.sleep(0.001)
        now = asyncio.get_running_loop().time()
        longest, last = max(longest, now - last), now
    assert (await counting).kind is CountKind.EXACT
    assert longest < 0.25  # tokenizing takes longer than that; other sessions share the cores


async def test_one_who_leaves_does_not_cancel_the_loading(model: Path) -> None:
    counter = PromptCounter()
    counter.use({"m": model})
    first = asyncio.create_task(count(counter, "m", chat("hi"), enough_tokens=0))
    await asyncio.sleep(0)
    first.cancel()
    assert (await count(counter, "m", chat("hi"), enough_tokens=0)).kind is CountKind.EXACT
    counter.close()


async def test_a_small_sample_is_tokenized_first_and_a_larger_one_only_near_a_limit(
    counter: PromptCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def sampled(_: Counting, texts: Sequence[str], messages: int, slices: int) -> float:
        sizes.append(slices)
        return 10_000.0

    monkeypatch.setattr(Counting, "sampled", sampled)
    prompt = chat("word " * 10_000)
    far = await counter.exact("m", prompt, (1_000, 100_000))
    assert (far.kind, sizes) == (CountKind.ABOUT, [64])
    near = await counter.exact("m", prompt, (1_000, 10_500))
    assert (near.kind, sizes) == (CountKind.EXACT, [64, 64, 256])
