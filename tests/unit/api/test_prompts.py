"""From each API's form to the prompt that is counted."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.core.prompt import Conversation, Texts, TokenIds
from cluster.core.request import Route
from services.api.prompts import NotAPromptError, prompt_of


def conversation(route: Route, body: dict[str, Any]) -> Conversation:
    found = prompt_of(route, body)
    assert isinstance(found, Conversation)
    return found


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", Texts(texts=("a",))),
        (["a", "bb"], Texts(texts=("a", "bb"))),
        ([1, 2, 3], TokenIds(longest_tokens=3)),
        ([[1], [1, 2]], TokenIds(longest_tokens=2, prompts=2)),
    ],
)
def test_completions_take_four_forms(prompt: object, expected: Texts | TokenIds) -> None:
    assert prompt_of(Route.COMPLETIONS, {"prompt": prompt}) == expected


@pytest.mark.parametrize("prompt", [None, [], [[]], [True], ["a", 1], {"a": 1}, [[1], "a"]])
def test_anything_else_is_not_a_prompt(prompt: object) -> None:
    with pytest.raises(NotAPromptError):
        prompt_of(Route.COMPLETIONS, {"prompt": prompt})


def test_plain_chat_is_faithful_and_tools_and_pictures_are_not() -> None:
    plain = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    picture = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}
    tools = {"messages": plain["messages"], "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert conversation(Route.CHAT, plain).is_faithful
    assert not conversation(Route.CHAT, picture).is_faithful
    assert not conversation(Route.CHAT, tools).is_faithful


def test_template_arguments_come_along() -> None:
    body = {
        "messages": [{"role": "user", "content": "a"}],
        "chat_template_kwargs": {"enable_thinking": False},
        "add_generation_prompt": False,
    }
    assert conversation(Route.CHAT, body).template_arguments == {
        "enable_thinking": False,
        "add_generation_prompt": False,
    }


def test_responses_become_chat() -> None:
    body = {
        "instructions": "be brief",
        "input": [
            {"role": "user", "content": "a"},
            {"type": "reasoning", "content": []},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
            {"type": "function_call_output", "output": "7", "call_id": "1"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
    }
    found = conversation(Route.RESPONSES, body)
    assert [message["role"] for message in found.messages] == ["system", "user", "assistant", "tool"]
    assert [tool["function"]["name"] for tool in found.tools] == ["f"]
    assert conversation(Route.RESPONSES, {"input": "a"}).messages == ({"role": "user", "content": "a"},)


def test_anthropic_messages_become_chat() -> None:
    body = {
        "system": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "7"}]},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    }
    found = conversation(Route.MESSAGES, body)
    assert [(message["role"], message["content"]) for message in found.messages] == [
        ("system", "be brief"),
        ("user", "a"),
        ("assistant", ""),
        ("tool", "7"),
        ("user", "go on"),
    ]
    assert found.tools[0]["function"]["parameters"] == {"type": "object"}


def test_rerank_reads_query_and_document_together() -> None:
    found = prompt_of(Route.RERANK, {"query": "q", "documents": ["a", {"text": "b"}]})
    assert isinstance(found, Texts)
    assert found.texts[0] == "q\na"
    assert not found.is_faithful


def test_tokenizing_needs_no_window() -> None:
    assert prompt_of(Route.TOKENIZE, {"prompt": "a" * 10**6}) is None
    assert prompt_of(Route.DETOKENIZE, {"tokens": [1]}) is None
