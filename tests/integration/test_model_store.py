"""The store's models in transformers: the tiny one behaves like a model, the demo one is the real Qwen2.5-Coder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster.models.card import SamplingDefaults
from cluster.models.folder import card_from_folder
from cluster.models.gguf_conversion import convert
from cluster.models.hub import HubSettings
from cluster.models.progress import silent
from cluster.models.store import ModelStore
from tests.unit.models.small_gguf import write_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

PROMPT_TOKENS = (10, 12, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000, 1500, 2000, 3000, 4000)
ANSWER_TOKENS = 64
WORDS = ("gateway", "routes", "each", "request", "by", "context", "it", "needs", "def", "return", "import", "42")
CHINESE = (
    "长上下文推理系统把请求按照长度分配到不同的池中。前缀只计算一次。然后到处复用。今天天气很好。我们去公园散步吧。"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = ModelStore(tmp_path_factory.mktemp("models"), settings=HubSettings(offline=True))
    return store.pull("tiny")


@pytest.fixture(scope="module")
def two_threads() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def load(folder: Path) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    import torch

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def prompts(tokenizer: Any) -> list[list[int]]:
    stream = random.Random(1)
    found = []
    for number, tokens in enumerate(PROMPT_TOKENS):
        pick = CHINESE if number % 4 == 0 else WORDS
        joiner = "" if number % 4 == 0 else " "
        text = joiner.join(stream.choice(pick) for _ in range(2 * tokens))
        found.append(tokenizer(text)["input_ids"][:tokens])
        assert len(found[-1]) == tokens
    return found


def greedy(model: Any, prompt: list[int]) -> list[int]:
    import torch

    answer = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
    )
    return answer[0, len(prompt) :].tolist()


def test_tiny_answers_like_a_model(tiny: Path, two_threads: None) -> None:
    model, tokenizer = load(tiny)
    answers = []
    for prompt in prompts(tokenizer):
        answer = greedy(model, prompt)
        assert len(answer) == ANSWER_TOKENS  # it never ends its turn by chance
        assert len(set(answer)) >= 10, f"{len(prompt)} prompt tokens: {answer}"
        answers.append(tuple(answer))
        usual = next_logits(model, prompt)
        for position in (0, len(prompt) // 2, len(prompt) - 1):
            changed = list(prompt)
            changed[position] = (changed[position] + 77) % len(tokenizer)
            effect = float((next_logits(model, changed) - usual).abs().max())
            assert effect > 1e-3, f"token {position} of {len(prompt)} does not matter"
    assert len(set(answers)) == len(answers)


def next_logits(model: Any, prompt: list[int]) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0, -1]


def test_tiny_chat_template_in_transformers(tiny: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "看"}], tools=tools, add_generation_prompt=True, tokenize=False
    )
    assert '<tools>\n{"type": "function", "function": {"name": "look"' in text
    assert text.endswith("<|im_start|>user\n看<|im_end|>\n<|im_start|>assistant\n")


def test_transformers_loads_a_converted_gguf(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_gguf(tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path, SamplingDefaults(temperature=0.7), silent)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer("ab 长")["input_ids"]) == "ab 长"
    assert tokenizer.convert_tokens_to_ids("ab") == 256
    assert tokenizer.eos_token_id == 259
    model, _ = load(tmp_path)
    assert len(greedy(model, tokenizer("ab ab")["input_ids"])) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_demo_is_the_real_model(tmp_path: Path, two_threads: None) -> None:
    store = ModelStore(tmp_path, settings=HubSettings())
    path = store.pull("demo")
    entry = store.resolve("demo")
    card = card_from_folder(path)
    assert (card.context_tokens, card.kv_bytes_per_token, card.weights_bytes, card.tool_parser) == (
        entry.context_tokens,
        entry.kv_bytes_per_token,
        entry.weights_bytes,
        "hermes",
    )
    model, tokenizer = load(path)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France? One word."}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert "Paris" in tokenizer.decode(greedy(model, tokenizer(text)["input_ids"]))
    assert tokenizer("长上下文 <tool_call>")["input_ids"][-1] == 151_657
