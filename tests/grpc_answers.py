"""Answers of both APIs in one form, so that they can be compared; and waiting for gRPC's.

What must not live here: sending, the product's own conversions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

REASONS = ["", "stop", "length", "tool_calls", "content_filter", "abort", "error", "other"]
"""FinishReason's numbers, in OpenAI's words."""
CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
FIELDS = {"prompt": "prompts", "input": "inputs", "tokens": "token_ids", "structured_outputs": "response_format"}


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that a call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def drained(call: Any) -> list[Any]:
    """Every message that is still to come."""
    messages: list[Any] = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    status = await call.code()
    if status is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            status, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )
    return messages


def rest_error(answer: httpx.Response) -> dict[str, Any]:
    """A REST error as gRPC should tell it."""
    told = answer.json()
    # A route that the engine's model has not is starlette's to refuse.
    error = told["error"] if "error" in told else {"message": told["detail"]}
    return _error(answer.status_code, error)


def _error(status: int, error: Mapping[str, Any]) -> dict[str, Any]:
    code = error.get("code")
    return {
        "code": CODES[status],
        "reason": code.upper() if isinstance(code, str) else "ENGINE_REFUSED",
        "message": error["message"][:1000],
        "field": _renamed(error["param"]) if error.get("param") and status == 400 else None,
    }


def grpc_error(error: grpc.aio.AioRpcError | grpc.RpcError) -> dict[str, Any]:
    """A gRPC error, its details unpacked."""
    told: dict[str, Any] = {"code": error.code().name, "reason": None, "message": error.details(), "field": None}
    for kind, detail in details_of(error).items():
        if kind == "ErrorInfo":
            told["reason"] = detail.reason
        if kind == "BadRequest":
            told["field"] = detail.field_violations[0].field
    return told


def details_of(error: grpc.aio.AioRpcError | grpc.RpcError) -> dict[str, Any]:
    """The google.rpc details of an error, by the name of their message."""
    trailers = dict(error.trailing_metadata() or ())
    raw = trailers.get("grpc-status-details-bin")
    if raw is None:
        return {}
    status = status_pb2.Status.FromString(raw)
    assert status.code == error.code().value[0]
    found = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        detail = getattr(error_details_pb2, name)()
        assert packed.Unpack(detail)
        found[name] = detail
    return found


def _renamed(param: str) -> str:
    head = param.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
    return FIELDS.get(head, head) + param[len(head) :]


def rest_answer(answer: httpx.Response) -> dict[str, Any]:
    """A REST answer, whole or streamed."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        return _rest_stream(events)
    told = answer.json()
    if "choices" not in told:
        return _rest_other(told)
    choices: dict[int, dict[str, Any]] = {}
    for choice in told["choices"]:
        said = choice.get("message", choice)
        choices[choice["index"]] = _choice(
            text=said.get("content", said.get("text")),
            reasoning=said.get("reasoning"),
            calls=[(call["function"]["name"], call["function"]["arguments"]) for call in said.get("tool_calls") or ()],
            reason=choice["finish_reason"],
            stop=choice.get("stop_reason"),
            logprobs=_rest_logprobs(choice.get("logprobs")),
            ids=choice.get("token_ids"),
            prompt_ids=choice.get("prompt_token_ids"),
        )
    return {"choices": choices, "usage": _rest_usage(told["usage"]), "prompt_ids": told.get("prompt_token_ids") or []}


def _rest_stream(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    usage, prompt_ids = None, []
    for event in events:
        if "error" in event:  # the engine found out late
            return {"error": _error(event["error"]["code"], event["error"])}
        usage = event.get("usage") or usage
        prompt_ids += event.get("prompt_token_ids") or []
        for part in event["choices"]:
            choice = choices.setdefault(part["index"], _choice())
            said = part.get("delta", part)
            choice["text"] += said.get("content", said.get("text")) or ""
            choice["reasoning"] += said.get("reasoning") or ""
            for call in said.get("tool_calls") or ():
                function = call.get("function") or {}
                _join_call(choice["calls"], call["index"], function.get("name"), function.get("arguments"))
            choice["reason"] = part.get("finish_reason") or choice["reason"]
            choice["stop"] = part.get("stop_reason") or choice["stop"]
            choice["logprobs"] += _rest_logprobs(part.get("logprobs"))
            choice["ids"] += part.get("token_ids") or []
            choice["prompt_ids"] += part.get("prompt_token_ids") or []
    assert usage is not None, "the stream has no usage"
    return {"choices": choices, "usage": _rest_usage(usage), "prompt_ids": prompt_ids}


def _join_call(calls: list[tuple[str, str]], index: int, name: str | None, arguments: str | None) -> None:
    while len(calls) <= index:
        calls.append(("", ""))
    calls[index] = (calls[index][0] + (name or ""), calls[index][1] + (arguments or ""))


def _choice(
    *,
    text: str | None = None,
    reasoning: str | None = None,
    calls: list[tuple[str, str]] | None = None,
    reason: str | None = None,
    stop: Any = None,
    logprobs: list[Any] | None = None,
    ids: list[int] | None = None,
    prompt_ids: list[int] | None = None,
) -> dict[str, Any]:
    return {
        "text": text or "", "reasoning": reasoning or "", "calls": calls or [], "reason": reason or "", "stop": stop,
        "logprobs": logprobs or [], "ids": list(ids or ()), "prompt_ids": list(prompt_ids or ()),
    }  # fmt: skip


def _rest_logprobs(told: Mapping[str, Any] | None) -> list[Any]:
    if not told:
        return []
    if "content" in told:
        return [
            (
                one["token"], one["logprob"], bytes(one["bytes"] or ()), None,
                sorted((top["token"], top["logprob"]) for top in one["top_logprobs"]),
            )
            for one in told["content"] or ()
        ]  # fmt: skip
    return [
        (token, logprob, b"", offset, sorted((top or {}).items()))
        for token, logprob, offset, top in zip(
            told["tokens"], told["token_logprobs"], told["text_offset"], told["top_logprobs"], strict=True
        )
    ]


def _rest_usage(usage: Mapping[str, Any]) -> tuple[int, int, int, int]:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return usage["prompt_tokens"], usage.get("completion_tokens") or 0, usage["total_tokens"], cached


def _rest_other(told: Mapping[str, Any]) -> dict[str, Any]:
    if "data" in told:
        return {"vectors": [one["embedding"] for one in told["data"]], "usage": _rest_usage(told["usage"])}
    if "prompt" in told:
        return {"text": told["prompt"]}
    return {"count": told["count"], "ids": told["tokens"], "strings": told.get("token_strs") or []}


def grpc_answer(messages: Sequence[Message]) -> dict[str, Any]:
    """A gRPC answer, whole or streamed."""
    first: Any = messages[0]
    if hasattr(first, "deltas"):
        return _grpc_stream(messages)
    if hasattr(first, "choices"):
        choices = {}
        for choice in first.choices:
            said = choice.message if hasattr(choice, "message") else choice
            choices[choice.index] = _choice(
                text=said.content if hasattr(choice, "message") else said.text,
                reasoning=said.reasoning if hasattr(choice, "message") else "",
                calls=[(call.name, call.arguments) for call in said.tool_calls] if hasattr(choice, "message") else [],
                reason=REASONS[choice.finish_reason],
                stop=_stop(choice),
                logprobs=_grpc_logprobs(choice.logprobs),
                ids=choice.token_ids,
                prompt_ids=getattr(choice, "prompt_token_ids", []),
            )
        prompt_ids = list(getattr(first, "prompt_token_ids", []))
        return {"choices": choices, "usage": _grpc_usage(first.usage), "prompt_ids": prompt_ids}
    if hasattr(first, "embeddings"):
        return {"vectors": [list(one.values) for one in first.embeddings], "usage": _grpc_usage(first.usage)}
    if hasattr(first, "text"):
        return {"text": first.text}
    if hasattr(first, "token_ids"):
        return {"count": first.count, "ids": list(first.token_ids), "strings": list(first.token_strings)}
    return {"count": first.count}


def _grpc_stream(messages: Sequence[Any]) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    prompt_ids: list[int] = []
    for message in messages:
        prompt_ids += getattr(message, "prompt_token_ids", [])
        for delta in message.deltas:
            choice = choices.setdefault(delta.index, _choice())
            choice["text"] += delta.content if hasattr(delta, "content") else delta.text
            choice["reasoning"] += getattr(delta, "reasoning", "")
            for call in getattr(delta, "tool_calls", []):
                _join_call(choice["calls"], call.index, call.name, call.arguments)
            choice["reason"] = REASONS[delta.finish_reason] or choice["reason"]
            choice["stop"] = _stop(delta) or choice["stop"]
            choice["logprobs"] += _grpc_logprobs(delta.logprobs)
            choice["ids"] += delta.token_ids
            choice["prompt_ids"] += getattr(delta, "prompt_token_ids", [])
    assert [message.HasField("usage") for message in messages].count(True) == 1
    assert messages[-1].HasField("usage"), "usage comes last"
    assert [bool(message.id) for message in messages].count(True) == 1
    assert messages[0].id, "the id comes first"
    return {"choices": choices, "usage": _grpc_usage(messages[-1].usage), "prompt_ids": prompt_ids}


def _stop(choice: Any) -> Any:
    kind = choice.stop_cause.WhichOneof("cause")
    return None if kind is None else getattr(choice.stop_cause, kind)


def _grpc_logprobs(told: Any) -> list[Any]:
    return [
        (
            one.token, one.logprob if one.HasField("logprob") else None, one.bytes,
            one.text_offset if one.HasField("text_offset") else None,
            sorted((top.token, top.logprob) for top in one.top),
        )
        for one in told
    ]  # fmt: skip


def _grpc_usage(usage: Any) -> tuple[int, int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens
