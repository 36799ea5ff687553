"""The tiny model's files, without torch: tests/integration/test_model_store.py runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from tokenizers import Tokenizer

from cluster.models.card import Dtype
from cluster.models.catalog import find
from cluster.models.safetensors_writer import to_bf16
from cluster.models.tiny import VOCABULARY, tiny_tokenizer

WEIGHTS_SHA256 = "4ec7fa678bc474e3fd54583099884c1df893a173e2027521c1d1979238747f7a"
ENGLISH = (
    "Longreach serves large language models with long contexts. A gateway routes each request by how much context it "
    "needs; prefixes computed once are reused everywhere, and clients speak one interface."
)
TEXTS = (ENGLISH, "长上下文推理。前缀只计算一次。", "naïve 🚀 code: def f(x):\n\treturn x**2  # 12345\n", "\r\n \x00")


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_folder / "tokenizer.json"))


def test_every_machine_gets_the_same_weights(tiny_folder: Path) -> None:
    assert hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS_SHA256


def test_the_catalog_states_its_size(tiny_folder: Path) -> None:
    entry = find("tiny")
    assert entry is not None
    assert (tiny_folder / "model.safetensors").stat().st_size == entry.weights_bytes
    assert entry.dtype is Dtype.BFLOAT16


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_english_is_not_one_token_a_byte(tokenizer: Tokenizer) -> None:
    assert len(ENGLISH.encode()) / len(tokenizer.encode(ENGLISH).ids) >= 2.5


def test_ids_agree_between_files(tiny_folder: Path, tokenizer: Tokenizer) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    generation = json.loads((tiny_folder / "generation_config.json").read_text())
    assert tokenizer.get_vocab_size() == config["vocab_size"] == VOCABULARY
    assert config["eos_token_id"] == generation["eos_token_id"][0] == tokenizer.token_to_id("<|im_end|>")
    assert tokenizer.token_to_id("<|endoftext|>") == generation["pad_token_id"] == generation["eos_token_id"][1]
    assert config["max_position_embeddings"] == 262_144


def test_tool_call_tags_stay_in_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>a<tool_call>b</tool_call><|im_end|>").ids
    assert len(ids) == 6
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<tool_call>b</tool_call>"


def test_chat_template_renders_a_conversation_with_tools() -> None:
    template = Environment(autoescape=False).from_string(tiny_tokenizer().chat_template)
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "x"}}}
    text = template.render(
        tools=[{"type": "function", "function": {"name": "look"}}],
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "seen"},
        ],
        add_generation_prompt=True,
    )
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert text.count("Be brief.") == 1
    assert (
        '<|im_start|>assistant\n<tool_call>\n{"name": "look", "arguments": {"at": "x"}}\n</tool_call><|im_end|>' in text
    )
    assert "<|im_start|>user\n<tool_response>\nseen\n</tool_response><|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")
    plain = template.render(messages=[{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert plain == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@given(st.floats(width=32, min_value=-(2.0**126), max_value=2.0**126, allow_subnormal=False))
def test_bf16_is_the_nearest(value: float) -> None:
    pattern = to_bf16(np.array([value], dtype=np.float32))
    rounded = (pattern.astype(np.uint32) << np.uint32(16)).view(np.float32)
    assert abs(float(rounded[0]) - value) <= abs(value) * 2.0**-8  # half a step of 8 significant bits
    assert to_bf16(rounded)[0] == pattern[0]


def test_bf16_ties_go_to_even() -> None:
    halfway = np.array([0x3F808000, 0x3F818000], dtype=np.uint32).view(np.float32)
    assert to_bf16(halfway).tolist() == [0x3F80, 0x3F82]
