"""Values of every field of chats and completions, each as REST's JSON and as gRPC's message have it.

What must not live here: whole requests (grpc_parity.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2

Fill = Callable[[Any], None]
"""Sets a field of a message."""


@dataclass(frozen=True)
class Value:
    """One value of one field, for both APIs."""

    rest: Mapping[str, Any]
    fill: Fill


def plain(name: str, value: Any, rest_name: str | None = None) -> Value:
    """A scalar that both have."""

    def fill(message: Any) -> None:
        setattr(message, name, value)

    return Value({rest_name or name: value}, fill)


def listed(name: str, values: list[Any], rest_name: str | None = None) -> Value:
    """A list of scalars."""
    return Value({rest_name or name: values}, lambda message: getattr(message, name).extend(values))


def sub(name: str, rest: Mapping[str, Any], made: Message) -> Value:
    """A message in a message."""
    return Value(rest, lambda message: getattr(message, name).CopyFrom(made))


def text_json(name: str, value: Any) -> Value:
    """Free-form JSON: a value in REST, its text in gRPC."""
    return plain_pair(name, value, json.dumps(value))


def plain_pair(name: str, rest: Any, value: Any) -> Value:
    """A field whose values look different."""

    def fill(message: Any) -> None:
        setattr(message, name, value)

    return Value({name: rest}, fill)


def joined(*values: Value) -> Value:
    """Several fields that belong together."""

    def fill(message: Any) -> None:
        for value in values:
            value.fill(message)

    return Value({key: item for value in values for key, item in value.rest.items()}, fill)


BIAS = {5: -100.0, 9: 1.5}
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["yes", "no"]}}, "required": ["a"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "In a city", "parameters": SCHEMA, "strict": True},
}
WEATHER_TOOL = chat_pb2.Tool(name="weather", description="In a city", parameters=json.dumps(SCHEMA), strict=True)

SAMPLING = [
    *(plain("temperature", value) for value in (0.0, 0.7, 2.0, -0.1, 2.5)),
    *(plain("top_p", value) for value in (0.5, 1.0, 0.0, 1.5)),
    *(plain("top_k", value) for value in (-1, 5, -2)),
    *(plain("min_p", value) for value in (0.0, 0.2, 1.5)),
    *(plain("presence_penalty", value) for value in (-2.0, 0.5, 3.0)),
    *(plain("frequency_penalty", value) for value in (-0.5, 2.0, -2.5)),
    *(plain("repetition_penalty", value) for value in (1.1, 0.0)),
    *(plain("seed", value) for value in (0, -5, 2**62)),
    listed("stop", ["e"]),
    listed("stop", ["zzz", "a b"]),
    listed("stop_token_ids", [5, 6]),
    *(plain("min_tokens", value) for value in (2, -1)),
    *(plain("ignore_eos", value) for value in (True, False)),
    Value({"logit_bias": {str(key): bias for key, bias in BIAS.items()}}, lambda m: m.logit_bias.update(BIAS)),
    *(plain("n", value) for value in (2, 0, 129)),
    *(plain("return_token_ids", value) for value in (False,)),
    *(plain("truncate_prompt_tokens", value) for value in (4, -1, -2)),
    *(plain("skip_special_tokens", value) for value in (True, False)),
    sub(
        "response_format",
        {"response_format": {"type": "json_object"}},
        common_pb2.ResponseFormat(json_object=common_pb2.JsonObjectFormat()),
    ),
    sub(
        "response_format",
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "description": "d", "schema": SCHEMA, "strict": True},
            }
        },
        common_pb2.ResponseFormat(
            json_schema=common_pb2.JsonSchemaFormat(name="a", description="d", schema=json.dumps(SCHEMA), strict=True)
        ),
    ),
    sub("response_format", {"structured_outputs": {"regex": "[ab]+c"}}, common_pb2.ResponseFormat(regex="[ab]+c")),
    sub(
        "response_format",
        {"structured_outputs": {"choice": ["red", "blue"]}},
        common_pb2.ResponseFormat(choice=common_pb2.ChoiceFormat(choices=["red", "blue"])),
    ),
    sub(
        "response_format",
        {"structured_outputs": {"grammar": 'root ::= "x" | "y"'}},
        common_pb2.ResponseFormat(grammar='root ::= "x" | "y"'),
    ),
    sub("response_format", {"structured_outputs": {"regex": "("}}, common_pb2.ResponseFormat(regex="(")),
    Value({"bad_words": ["foo"]}, lambda m: setattr(m, "extra", '{"bad_words": ["foo"]}')),
]
CHAT = [
    *SAMPLING,
    *(plain("max_completion_tokens", value) for value in (1, 9, 0, -3, 300_000)),
    plain("logprobs", True),
    joined(plain("logprobs", True), plain("top_logprobs", 3)),
    plain("top_logprobs", 2),
    plain("top_logprobs", -2),
    joined(
        Value({"tools": [WEATHER]}, lambda m: m.tools.append(WEATHER_TOOL)),
        sub(
            "tool_choice",
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
            chat_pb2.ToolChoice(function="weather"),
        ),
        plain("parallel_tool_calls", True),
    ),
    joined(
        Value({"tools": [WEATHER]}, lambda m: m.tools.append(WEATHER_TOOL)),
        sub("tool_choice", {"tool_choice": "none"}, chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_NONE)),
    ),
    joined(
        Value({"tools": [WEATHER]}, lambda m: m.tools.append(WEATHER_TOOL)),
        sub("tool_choice", {"tool_choice": "auto"}, chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_AUTO)),
        plain("parallel_tool_calls", False),
    ),
    sub("tool_choice", {"tool_choice": "required"}, chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_REQUIRED)),
    text_json("chat_template_kwargs", {"some": [1, 2.5, "x"]}),
    text_json("chat_template_kwargs", [1]),
    plain("add_generation_prompt", False),
    joined(plain("add_generation_prompt", False), plain("continue_final_message", True)),
    plain("continue_final_message", True),
    *(plain("reasoning_effort", value) for value in ("low", "enormous")),
]
COMPLETE = [
    *SAMPLING,
    *(plain("max_tokens", value) for value in (1, 9, 0, -3, 300_000)),
    *(plain("logprobs", value) for value in (0, 2, -2)),
    plain("echo", True),
    joined(plain("echo", True), plain("logprobs", 1)),
    joined(plain("echo", True), plain("max_tokens", 0)),
    *(plain("add_special_tokens", value) for value in (True, False)),
]
