from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from loadtest.bench.bodies import ESCAPED_KINDS, KINDS, MARK, Bodies
from tests.small_tokenizer import write_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_file(str(write_model(tmp_path_factory.mktemp("tokenizer")) / "tokenizer.json"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_prompt_has_the_tokens_it_should(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    prompt = Bodies(tmp_path).long(kind, 5_000, tokenizer)
    raw = prompt.body.read_bytes()
    body = json.loads(raw)
    text = body["messages"][0]["content"].removeprefix(f"{MARK} ")
    assert prompt.body_bytes == len(raw)
    assert prompt.tokens == pytest.approx(5_000, rel=0.03)
    assert prompt.tokens == pytest.approx(len(tokenizer.encode(text)), abs=20)
    assert body["x_prompt_tokens"] == prompt.tokens
    assert raw.isascii() == (kind in ESCAPED_KINDS or kind in {"english", "base64"})


def test_what_the_fake_engine_looks_for_is_at_a_bodys_ends(tokenizer: Tokenizer, tmp_path: Path) -> None:
    raw = Bodies(tmp_path).long("english", 5_000, tokenizer).body.read_bytes()
    ends = raw[:1024] + raw[-1024:]
    assert all(field in ends for field in (b'"stream"', b'"max_tokens"', b'"x_prompt_tokens"', MARK.encode()))
