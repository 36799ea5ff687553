"""Answers as engines write them, for each route: whole, and as the events of a stream.

What must not live here: sockets, faults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster.core import wire
from cluster.core.outcome import ReplicaOutcome, encode_outcome

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one answer cost, exactly."""

    prompt: int
    output: int
    cached: int = 0

    def outcome(self) -> ReplicaOutcome:
        return ReplicaOutcome(self.prompt, self.output, self.cached, queue_s=0.001, prefill_s=0.002, decode_s=0.003)

    def openai(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }

    def named(self) -> dict[str, Any]:
        """The form of Anthropic's messages and OpenAI's responses."""
        return {"input_tokens": self.prompt, "output_tokens": self.output}


def count_words(body: dict[str, Any]) -> int:
    """One token a word, whatever the route."""
    texts = [str(message.get("content")) for message in body.get("messages") or []]
    for key in ("prompt", "input", "system", "instructions"):
        value = body.get(key)
        texts += [value] if isinstance(value, str) else []
    return sum(len(text.split()) for text in texts)


def chunk(text: str) -> dict[str, Any]:
    """One piece of a chat's stream."""
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }


def whole(path: str, model: str, text: str, usage: Usage) -> dict[str, Any]:
    """An answer that is no stream."""
    if path.endswith("/messages"):
        content = [{"type": "text", "text": text}]
        return {
            "id": "x", "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": "end_turn", "usage": usage.named(),
        }  # fmt: skip
    if path.endswith("/responses"):
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"id": "y", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return {
            "id": "x", "object": "response", "created_at": 0, "model": model, "status": "completed",
            "output": [message], "usage": {**usage.named(), "total_tokens": usage.prompt + usage.output},
        }  # fmt: skip
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.0]}]
        return {"object": "list", "model": model, "data": data, "usage": {**usage.openai(), "completion_tokens": 0}}
    if path.endswith("/tokenize"):
        return {"count": usage.prompt, "max_model_len": 4000, "tokens": [1] * usage.prompt}
    if path.endswith("/detokenize"):
        return {"prompt": text}
    is_chat = not path.endswith("/v1/completions")
    said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    return {
        "id": "x",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, **said, "finish_reason": "stop"}],
        "usage": usage.openai(),
    }


def opening(path: str, model: str) -> bytes:
    """What a stream has before its first token."""
    if path.endswith("/messages"):
        message = {"id": "x", "type": "message", "role": "assistant", "model": model, "content": []}
        return _named("message_start", {"message": message}) + _named(
            "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
        )
    if path.endswith("/responses"):
        return _named("response.created", {"response": {"id": "x", "object": "response", "status": "in_progress"}})
    return b""


def token(path: str, index: int) -> bytes:
    """The event of one token."""
    text = f"token{index} "
    if path.endswith("/messages"):
        return _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
    if path.endswith("/responses"):
        return _named("response.output_text.delta", {"item_id": "y", "output_index": 0, "delta": text})
    if path.endswith("/v1/completions"):
        choice = {"index": 0, "text": text, "finish_reason": None}
        return _data({"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]})
    return _data(chunk(text))


def closing(path: str, model: str, usage: Usage, *, with_usage: bool) -> bytes:
    """What a stream has after its last token; `with_usage` is what `stream_options.include_usage` asks for."""
    if path.endswith("/messages"):
        delta = {"delta": {"stop_reason": "end_turn"}, "usage": usage.named()}
        return _named("content_block_stop", {"index": 0}) + _named("message_delta", delta) + _named("message_stop", {})
    if path.endswith("/responses"):
        return _named("response.completed", {"response": whole(path, model, "", usage)})
    last = b""
    if with_usage:
        name = "text_completion" if path.endswith("/v1/completions") else "chat.completion.chunk"
        last = _data({"id": "x", "object": name, "created": 0, "model": "m", "choices": [], "usage": usage.openai()})
    return last + DONE


def outcome_comment(usage: Usage) -> bytes:
    """The last bytes of a stream whose gateway wants the outcome."""
    return wire.COMMENT_OUTCOME + encode_outcome(usage.outcome()).encode() + b"\n\n"


def ids_comment(index: int) -> bytes:
    """The token id behind one event."""
    return wire.COMMENT_IDS + f"0:{1000 + index}\n\n".encode()


def _data(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


def _named(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
