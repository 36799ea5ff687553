"""The requests whose streams are cut in tests of resuming, by real engines and by a real cluster.

What must not live here: asking, comparing (resume_engine.py).
"""

from __future__ import annotations

from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
FUNCTION = {"name": "look_up", "description": "Looks a city up.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
ENGLISH = [{"role": "user", "content": "Tell me a story of the sea."}]
CHINESE = [{"role": "user", "content": "请给我讲一个关于大海的故事。"}]
OUTGROWN = (
    "plain", "chinese", "usage", "seeded", "json", "tool", "choices", "stop", "messages", "responses", "responses_json",
)  # fmt: skip
"""Kinds that also fill a small context and go on in a large one."""
PICKED = "picked"
"""Stands for a stop string from the undisturbed answer, across tokens."""


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    body = {"messages": ENGLISH, "max_tokens": 24, "temperature": 0.0, "ignore_eos": True, **fields}
    return "/v1/chat/completions", body


def respond(**fields: Any) -> tuple[str, dict[str, Any]]:
    body = {"input": ENGLISH, "max_output_tokens": 24, "temperature": 0.0, "ignore_eos": True, **fields}
    return "/v1/responses", body


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": chat(),
    "chinese": chat(messages=CHINESE, max_tokens=40),
    "usage": chat(stream_options={"include_usage": True}),
    "until_eos": chat(ignore_eos=False, logit_bias={"1": 8.0}, max_tokens=60),
    "repetition": chat(repetition_penalty=1.3),
    "penalties": chat(presence_penalty=1.5, frequency_penalty=0.5),
    "seeded": chat(temperature=1.0, top_p=0.9, seed=7),
    "logprobs": chat(logprobs=True, top_logprobs=2),
    "json": chat(
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
        ignore_eos=False,
        max_tokens=60,
    ),
    "tool": chat(
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "look_up"}},
        ignore_eos=False,
        max_tokens=60,
    ),
    "choices": chat(n=2, temperature=1.0, seed=3, max_tokens=10),
    "stop": chat(stop=PICKED, max_tokens=40),
    "stop_kept": chat(stop=PICKED, include_stop_str_in_output=True, max_tokens=40),
    "auto_tools": chat(tools=[TOOL]),
    "at_least": chat(ignore_eos=False, logit_bias={"1": 8.0}, min_tokens=12, max_tokens=40),
    "echo": ("/v1/completions", {"prompt": "The sea", "echo": True, "max_tokens": 12, "temperature": 0.0}),
    "completion": ("/v1/completions", {"prompt": "The sea", "max_tokens": 24, "temperature": 0.0, "ignore_eos": True}),
    "messages": ("/v1/messages", {"messages": ENGLISH, "max_tokens": 16, "temperature": 0.0}),
    "responses": respond(),
    "responses_chinese": respond(input=CHINESE, max_output_tokens=40),
    "responses_json": respond(
        text={"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}},
        ignore_eos=False,
        max_output_tokens=60,
    ),
    "responses_tool": respond(
        tools=[{"type": "function", **FUNCTION}],
        tool_choice={"type": "function", "name": "look_up"},
        ignore_eos=False,
        max_output_tokens=60,
    ),
    "responses_logprobs": respond(
        include=["message.output_text.logprobs"], top_logprobs=2, temperature=1.0, top_p=0.9, seed=7
    ),
}
