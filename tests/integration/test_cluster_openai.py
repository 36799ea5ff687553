"""The openai client against the gateway, with real vLLM behind it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from tokenizers import Tokenizer

from tests.cluster_harness import Cluster

pytestmark = pytest.mark.integration

HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"unit": {"enum": ["celsius", "kelvin"]}},
            "required": ["unit"],
            "additionalProperties": False,
        },
    },
}
SCHEMA: Any = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.choices[0].finish_reason == "length"


def test_chat_streams_the_same_text(client: openai.OpenAI) -> None:
    settings: Any = {"model": "tiny", "messages": HELLO, "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**settings)
    parts = list(client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == whole.choices[0].message.content
    assert len([part for part in parts if part.choices]) > 4, "the answer came in one piece"
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == 16


@pytest.fixture(scope="module")
def no_blanks(cluster: Cluster) -> dict[str, int]:
    """A bias against tokens of whitespace alone: a random model would fill a JSON document with them."""
    tokenizer = Tokenizer.from_file(str(cluster.model_folder("tiny") / "tokenizer.json"))
    texts = {index: tokenizer.decode([index]) for index in range(tokenizer.get_vocab_size())}
    return {str(index): -100 for index, text in texts.items() if text and not text.strip()}


def test_tool_call(client: openai.OpenAI, no_blanks: dict[str, int]) -> None:
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, tools=[WEATHER], tool_choice=choice, max_tokens=64, logit_bias=no_blanks
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    call: Any = calls[0]
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["unit"] in {"celsius", "kelvin"}


def test_tool_call_streams(client: openai.OpenAI, no_blanks: dict[str, int]) -> None:
    choice: Any = {"type": "function", "function": {"name": "weather"}}
    stream = client.chat.completions.create(
        model="tiny",
        messages=HELLO,
        tools=[WEATHER],
        tool_choice=choice,
        max_tokens=64,
        logit_bias=no_blanks,
        stream=True,
    )
    pieces = [call for part in stream for call in (part.choices[0].delta.tool_calls or [] if part.choices else [])]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert json.loads(arguments)["unit"] in {"celsius", "kelvin"}


def test_json_schema(client: openai.OpenAI, no_blanks: dict[str, int]) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, response_format=wanted, max_tokens=64, logit_bias=no_blanks
    )
    assert json.loads(answer.choices[0].message.content or "")["answer"] in {"yes", "no"}


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=3, temperature=0
    )
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert len(content) == 4
    assert all(len(token.top_logprobs) == 3 for token in content)
    assert all(token.logprob <= 0 for token in content)


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="Once upon a time", max_tokens=6, n=2, seed=7)
    assert len(answer.choices) == 2
    silent = client.completions.create(model="tiny", prompt="Once upon a time", extra_body={"ignore_eos": True})
    assert silent.usage is not None
    assert silent.usage.completion_tokens == 16, "the completions API promises 16 tokens to a silent request"


def test_seed_repeats(client: openai.OpenAI) -> None:
    settings: Any = {"model": "tiny", "prompt": "Once upon", "max_tokens": 12, "temperature": 1.0}
    first = client.completions.create(**settings, seed=11).choices[0].text
    assert client.completions.create(**settings, seed=11).choices[0].text == first
    assert client.completions.create(**settings, seed=12).choices[0].text != first


def test_stop(client: openai.OpenAI) -> None:
    settings: Any = {"model": "tiny", "prompt": "Once upon", "max_tokens": 12, "temperature": 0}
    text = client.completions.create(**settings).choices[0].text
    stop = text[len(text) // 2 :][:3]
    stopped = client.completions.create(**settings, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop"
    assert text.startswith(stopped.text)
    assert stop not in stopped.text


def test_priority_passes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="Once", max_tokens=2, extra_body={"priority": 5})
    assert answer.choices[0].finish_reason == "length"


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="tiny", input="Say hello.", max_output_tokens=8)
    assert answer.output_text
    kinds = [
        event.type
        for event in client.responses.create(model="tiny", input="Say hello.", max_output_tokens=8, stream=True)
    ]
    assert kinds[0] == "response.created"
    assert kinds[-1] in {"response.completed", "response.incomplete"}


def test_messages_api(client: openai.OpenAI) -> None:
    """Anthropic's API, by plain HTTP."""
    answer = client.post(
        "/messages", body={"model": "tiny", "max_tokens": 8, "messages": HELLO}, cast_to=dict[str, object]
    )
    assert answer["type"] == "message"
    assert answer["usage"]["output_tokens"] == 8  # type: ignore[index]


def test_models_and_alias(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"tiny", "tiny-alias", "tiny-tp"} <= models.keys()
    assert models["tiny"].max_model_len == 262_144  # type: ignore[attr-defined]
    answer = client.chat.completions.create(model="tiny-alias", messages=HELLO, max_tokens=2)
    assert answer.usage is not None


def test_tokenize_and_back(client: openai.OpenAI) -> None:
    text = "Wie weit? 多远?"
    tokens: Any = client.post("/tokenize", body={"model": "tiny", "prompt": text}, cast_to=dict[str, object])
    assert tokens["count"] == len(tokens["tokens"])
    back: Any = client.post(
        "/detokenize", body={"model": "tiny", "tokens": tokens["tokens"]}, cast_to=dict[str, object]
    )
    assert back["prompt"] == text


def test_unknown_model_is_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert caught.value.code == "model_not_found"


def test_output_is_never_shortened_silently(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny-tp", prompt="hello", max_tokens=4096)
    assert caught.value.code == "context_length_exceeded"
    assert "4,096" in caught.value.message
