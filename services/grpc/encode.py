"""From the engine's JSON to this API's messages.

What must not live here: streams' bytes (deltas.py), requests (decode.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.api.gateway import Gateway
from services.api.models import entries
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2, inference_pb2

_REASONS = {
    "stop": common_pb2.FINISH_REASON_STOP,
    "length": common_pb2.FINISH_REASON_LENGTH,
    "tool_calls": common_pb2.FINISH_REASON_TOOL_CALLS,
    "content_filter": common_pb2.FINISH_REASON_CONTENT_FILTER,
    "abort": common_pb2.FINISH_REASON_ABORT,
    "error": common_pb2.FINISH_REASON_ERROR,
}


def chat_response(told: Mapping[str, Any]) -> chat_pb2.ChatResponse:
    """The answer of POST /v1/chat/completions."""
    return chat_pb2.ChatResponse(
        id=told.get("id") or "",
        model=told.get("model") or "",
        created=told.get("created") or 0,
        choices=[_chat_choice(choice) for choice in told["choices"]],
        usage=usage_of(told),
        prompt_token_ids=told.get("prompt_token_ids") or (),
    )


def complete_response(told: Mapping[str, Any]) -> complete_pb2.CompleteResponse:
    """The answer of POST /v1/completions."""
    return complete_pb2.CompleteResponse(
        id=told.get("id") or "",
        model=told.get("model") or "",
        created=told.get("created") or 0,
        choices=[_complete_choice(choice) for choice in told["choices"]],
        usage=usage_of(told),
    )


def embed_response(told: Mapping[str, Any]) -> inference_pb2.EmbedResponse:
    """The answer of POST /v1/embeddings."""
    return inference_pb2.EmbedResponse(
        model=told.get("model") or "",
        embeddings=[
            inference_pb2.Embedding(index=one.get("index") or 0, values=one["embedding"]) for one in told["data"]
        ],
        usage=usage_of(told),
    )


def tokenize_response(told: Mapping[str, Any]) -> inference_pb2.TokenizeResponse:
    """The answer of POST /tokenize."""
    return inference_pb2.TokenizeResponse(
        count=told["count"],
        max_context_tokens=told.get("max_model_len") or 0,
        token_ids=told["tokens"],
        token_strings=told.get("token_strs") or (),
    )


def count_response(told: Mapping[str, Any]) -> inference_pb2.CountTokensResponse:
    """The answer of POST /tokenize, without the tokens."""
    return inference_pb2.CountTokensResponse(count=told["count"])


def detokenize_response(told: Mapping[str, Any]) -> inference_pb2.DetokenizeResponse:
    """The answer of POST /detokenize."""
    return inference_pb2.DetokenizeResponse(text=told["prompt"])


def models_response(gateway: Gateway) -> inference_pb2.ListModelsResponse:
    """What GET /v1/models answers."""
    models = []
    for entry in entries(gateway):
        pools = [
            inference_pb2.ModelPool(name=pool["name"], max_context_tokens=pool["context_tokens"])
            for pool in entry["longreach"]["pools"]
        ]
        models.append(
            inference_pb2.Model(
                id=entry["id"],
                root=entry["root"],
                parent=entry["parent"],
                max_context_tokens=entry["max_model_len"],
                pools=pools,
            )
        )
    return inference_pb2.ListModelsResponse(models=models)


def usage_of(told: Mapping[str, Any]) -> common_pb2.Usage | None:
    """The counts of an answer or an event; None where it has none."""
    usage = told.get("usage")
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}
    return common_pb2.Usage(
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        total_tokens=usage.get("total_tokens") or 0,
        cached_tokens=details.get("cached_tokens"),
    )


def finish_reason(name: str | None) -> common_pb2.FinishReason:
    """OpenAI's name for why a choice ended, as this API's; unspecified while it has not."""
    if not name:
        return common_pb2.FINISH_REASON_UNSPECIFIED
    return _REASONS.get(name, common_pb2.FINISH_REASON_OTHER)


def stop_cause(reason: str | int | None) -> common_pb2.StopCause | None:
    """What vLLM calls `stop_reason`."""
    if reason is None:
        return None
    return common_pb2.StopCause(text=reason) if isinstance(reason, str) else common_pb2.StopCause(token_id=reason)


def chat_logprobs(told: Mapping[str, Any] | None) -> Iterable[common_pb2.TokenLogprob]:
    """OpenAI's `logprobs` of a chat choice: a list of tokens under `content`."""
    for entry in (told or {}).get("content") or ():
        top = [
            common_pb2.TopLogprob(token=one["token"], logprob=one["logprob"], bytes=bytes(one.get("bytes") or ()))
            for one in entry.get("top_logprobs") or ()
        ]
        yield common_pb2.TokenLogprob(
            token=entry["token"], logprob=entry["logprob"], bytes=bytes(entry.get("bytes") or ()), top=top
        )


def complete_logprobs(told: Mapping[str, Any] | None) -> Iterable[common_pb2.TokenLogprob]:
    """OpenAI's `logprobs` of a completions choice: four lists beside each other."""
    if not told:
        return
    tops, offsets = told.get("top_logprobs") or (), told.get("text_offset") or ()
    for at, (token, logprob) in enumerate(zip(told["tokens"], told["token_logprobs"], strict=True)):
        top = (tops[at] if at < len(tops) else None) or {}
        yield common_pb2.TokenLogprob(
            token=token,
            logprob=logprob,
            top=[common_pb2.TopLogprob(token=name, logprob=value) for name, value in top.items()],
            text_offset=offsets[at] if at < len(offsets) else None,
        )


def _chat_choice(choice: Mapping[str, Any]) -> chat_pb2.ChatChoice:
    said = choice["message"]
    calls = [
        chat_pb2.ToolCall(
            id=call.get("id") or "", name=call["function"]["name"], arguments=call["function"]["arguments"]
        )
        for call in said.get("tool_calls") or ()
    ]
    message = chat_pb2.ChatMessage(
        role=said.get("role") or "",
        content=said.get("content"),
        tool_calls=calls,
        reasoning=said.get("reasoning") or said.get("reasoning_content"),
    )
    return chat_pb2.ChatChoice(
        index=choice.get("index") or 0,
        message=message,
        finish_reason=finish_reason(choice.get("finish_reason")),
        stop_cause=stop_cause(choice.get("stop_reason")),
        logprobs=chat_logprobs(choice.get("logprobs")),
        token_ids=choice.get("token_ids") or (),
    )


def _complete_choice(choice: Mapping[str, Any]) -> complete_pb2.CompleteChoice:
    return complete_pb2.CompleteChoice(
        index=choice.get("index") or 0,
        text=choice.get("text") or "",
        finish_reason=finish_reason(choice.get("finish_reason")),
        stop_cause=stop_cause(choice.get("stop_reason")),
        logprobs=complete_logprobs(choice.get("logprobs")),
        token_ids=choice.get("token_ids") or (),
        prompt_token_ids=choice.get("prompt_token_ids") or (),
    )
