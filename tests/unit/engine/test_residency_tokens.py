"""Token ids to bytes and back with real tokenizers, and whether generated tokens are what a tokenizer makes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cluster.engine.residency.canonical import agreed_tokens
from cluster.engine.residency.tokens import TextTokens, Unfit, read_tokens
from cluster.environment import read_environment
from cluster.models.tiny import tiny_tokenizer

TEXTS = {
    "prose": "The quick brown fox jumps over the lazy dog; it's 12,345 o'clock.  Don't!\r\n\r\n" * 3,
    "chat": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "code": "def f(x):\n    if x >= 3:\n\t\treturn {'a': [x ** 2, x // 3]}  # größer\n\n\n",
    "chinese": "今天天气很好,我们去公园散步吧。日本語のテキスト。한국어 텍스트입니다.",
    "emoji": "🎉😀👩‍👩‍👧‍👦🏳️‍🌈 ok 👍🏽",
    "tools": '<tool_call>\n{"name": "f", "arguments": {"q": "ü"}}\n</tool_call><|endoftext|>',
    "spaces": "   \n\n \t  x   \u00a0\u3000\u200b",
}


def demo_folder() -> Path:
    """The demo model, where somebody has pulled it."""
    for file in sorted(read_environment().cache_home.glob("models/demo/*/tokenizer.json")):
        return file.parent
    pytest.skip("the demo model is not on this machine: longreach models pull demo")


@pytest.fixture(scope="module", params=["tiny", "demo"])
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextTokens:
    if request.param == "demo":
        folder = demo_folder()
    else:
        folder = tmp_path_factory.mktemp("tiny")
        tiny_tokenizer().write(folder)
    found = read_tokens(folder)
    assert isinstance(found, TextTokens)
    return found


def text_of(tokens: TextTokens, ids: list[int]) -> bytes:
    return b"".join(tokens.table[token] or b"" for token in ids)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_is_its_tokens_bytes(tokens: TextTokens, text: str) -> None:
    assert text_of(tokens, tokens.encode(text)) == text.encode()


def test_a_text_that_is_not_normalized_comes_back_normalized(tokens: TextTokens) -> None:
    assert text_of(tokens, tokens.encode("e\u0301")) == "é".encode()


def agreed(tokens: TextTokens, window: list[int], context: int, *, is_start: bool = False) -> int:
    return agreed_tokens(
        window,
        context=context,
        is_start=is_start,
        table=tokens.table,
        specials=tokens.specials,
        encode=tokens.encode,
    )


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_every_window_of_a_tokenized_text_agrees(tokens: TextTokens, text: str) -> None:
    ids = tokens.encode(text * 3)
    chance = random.Random(7)
    for _ in range(60):
        start = chance.randrange(max(1, len(ids) - 24))
        window = ids[start : start + chance.randrange(24, 80)]
        context = len(window) - 8
        assert agreed(tokens, window, context, is_start=start == 0) >= context
    for end in range(1, len(ids)):
        assert agreed(tokens, ids[:end], 0, is_start=True) == end, "also where a character is cut"


def test_tokens_that_would_be_merged_do_not_agree(tokens: TextTokens) -> None:
    before = tokens.encode("One two three, four five six; seven. It was the")
    after = tokens.encode(" and so on and on")
    pieces = [token for letter in " time" for token in tokens.encode(letter)]
    assert len(tokens.encode(" time")) < len(pieces)
    window = [*before, *pieces, *after]
    for is_start in (True, False):
        assert agreed(tokens, window, len(before), is_start=is_start) == len(before)


def test_a_special_token_in_letters_does_not_agree(tokens: TextTokens) -> None:
    before = tokens.encode("<|im_start|>user\nsay it:")
    pieces = [token for part in ("<", "|", "im", "_end", "|", ">") for token in tokens.encode(part)]
    window = [*before, *pieces]
    assert len(before) - 1 <= agreed(tokens, window, len(before)) < len(window)


def test_bytes_that_are_no_text_do_not_agree(tokens: TextTokens) -> None:
    before = tokens.encode("One two three four five")
    stray = tokens.table.index(b"\xff")
    assert agreed(tokens, [*before, stray, *tokens.encode(" six")], len(before)) == len(before)


def changed(folder: Path, **changes: Any) -> Path:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        document[key] = value(document[key]) if callable(value) else value
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model": lambda model: model | {"byte_fallback": True}}, id="byte fallback"),
        pytest.param({"model": lambda model: model | {"type": "Unigram"}}, id="unigram"),
        pytest.param({"model": lambda model: model | {"end_of_word_suffix": "</w>"}}, id="suffix"),
        {"decoder": {"type": "Metaspace"}},
        {"decoder": None},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"normalizer": {"type": "Lowercase"}},
        {"model": None},
        {"added_tokens": [{"id": 10**9, "content": "x"}]},
        {"added_tokens": [3]},
    ],
    ids=repr,
)
def test_other_tokenizers_are_unfit(tmp_path: Path, changes: dict[str, Any]) -> None:
    tiny_tokenizer().write(tmp_path)
    found = read_tokens(changed(tmp_path, **changes))
    assert isinstance(found, Unfit)
    assert found.reason


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_file_that_is_none_is_unfit(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    assert isinstance(read_tokens(tmp_path), Unfit)


def test_letters_are_those_of_the_tokenizers_library(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(tmp_path / "tokenizer.json"))
    found = read_tokens(tmp_path)
    assert isinstance(found, TextTokens)
    assert sorted(part or b"" for part in found.table) == [bytes([byte]) for byte in range(256)]
