"""What the steady load asks: every form of answer that a fault could spoil, each with one right answer.

Everything is greedy or seeded, and the model computes in fp32, so that a request has the same answer on every replica.
What must not live here: sending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MODEL = "tiny"
DOCUMENT_TOKENS = 5_000
"""Over the short pool's limit."""
DOCUMENT_WORD = 100
"""A token id; what it says is of no account."""


class Api(StrEnum):
    """Over which protocol."""

    REST = "rest"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One form of request."""

    name: str
    body: Mapping[str, Any]
    """REST: the JSON; gRPC: fields of the request."""
    api: Api = Api.REST
    path: str = "/v1/chat/completions"
    is_stream: bool = True
    is_json: bool = False
    """Whether it must answer with JSON."""


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 60},
        "country": {"type": "string", "maxLength": 60},
        "people": {"type": "integer", "maximum": 99999},
    },
    "required": ["city", "country", "people"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "look_up", "description": "Looks a city up.", "parameters": SCHEMA}
_TOOLS = {
    "tools": [{"type": "function", "function": _FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "look_up"}},
}
_FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}}
_GRPC_MESSAGES = [{"role": "user", "content": "Tell me of the mountains."}]


def _chat(text: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0.0,
        "return_token_ids": True,
        **more,
    }


def _stream(name: str, text: str, tokens: int, *, is_json: bool = False, **more: Any) -> Kind:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return Kind(name=name, body=_chat(text, tokens, **options, **more), is_json=is_json)


KINDS: tuple[Kind, ...] = (
    _stream("plain", "Tell me a story of the sea.", 320, ignore_eos=True),
    Kind(name="whole", body=_chat("Tell me of the river.", 120, ignore_eos=True), is_stream=False),
    _stream("json", "Which city?", 400, is_json=True, **_FORMAT),
    Kind(
        name="document",
        path="/v1/completions",
        body={
            "model": MODEL, "prompt": [DOCUMENT_WORD] * DOCUMENT_TOKENS, "max_tokens": 200, "temperature": 0.0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
        },
    ),
    Kind(
        name="grpc",
        api=Api.GRPC,
        body={
            "model": MODEL, "messages": _GRPC_MESSAGES, "max_completion_tokens": 320, "temperature": 0.0,
            "ignore_eos": True, "return_token_ids": True,
        },
    ),
    _stream("chinese", "请给我讲一个关于大海的故事。", 200, ignore_eos=True),
    _stream("tool", "Which city?", 400, is_json=True, **_TOOLS),
    Kind(
        name="grpc whole",
        api=Api.GRPC,
        is_stream=False,
        body={
            "model": MODEL, "messages": _GRPC_MESSAGES, "max_completion_tokens": 100, "temperature": 0.0,
            "ignore_eos": True, "return_token_ids": True,
        },
    ),
    _stream("penalties", "Tell me of the wood.", 200, ignore_eos=True, presence_penalty=1.5, frequency_penalty=0.5),
    Kind(name="whole json", body=_chat("Which town?", 400, **_FORMAT), is_stream=False, is_json=True),
    _stream("seeded", "Tell me of the wind.", 200, ignore_eos=True, temperature=1.0, seed=7, top_p=0.9),
    _stream("logprobs", "Tell me of the rain.", 120, ignore_eos=True, logprobs=True, top_logprobs=2),
)  # fmt: skip
