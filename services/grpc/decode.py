"""From this API's messages to the bodies that REST takes: one schema checks both, so both refuse the same.

A message's fields have the names of OpenAI's; what is shaped differently has a function here. Fields that are absent
stay absent. What must not live here: judging values (services/api/schema.py), answers (encode.py).
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from cluster.core.request import InferenceRequest, RequestId, Route
from services.api.decode import read_body
from services.api.refusals import Refusal, invalid
from services.api.strict_json import NotStrictJsonError, parse_object
from services.grpc.bad_text import field_with_bad_text
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2, inference_pb2

M = TypeVar("M", bound=Message)
_OTHER_NAMES = {"prompt": "prompts", "input": "inputs", "tokens": "token_ids", "structured_outputs": "response_format"}
"""REST's name of a field, where this API's is another."""
_TOOL_CHOICES = {
    chat_pb2.ToolChoice.MODE_NONE: "none",
    chat_pb2.ToolChoice.MODE_AUTO: "auto",
    chat_pb2.ToolChoice.MODE_REQUIRED: "required",
}
_EXTRA_TAKEN = frozenset({
    "stream", "stream_options", "structured_outputs", "prompt", "input", "encoding_format", "max_tokens",
})  # fmt: skip
"""REST's names of what these messages say in another way."""


class BadFieldError(Exception):
    """A field holds what cannot be meant; the message is for the client."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(problem)


def parse(kind: type[M], raw: bytes) -> M | Refusal:
    """The message in `raw`; never raises on any bytes."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        field = field_with_bad_text(kind.DESCRIPTOR, raw)
        if field is None:
            return invalid(f"The request is no valid {name}.", code="invalid_message")
        return invalid(f"{field}: the text is not valid UTF-8.", param=field, code="invalid_utf8")


def field_path(param: str) -> str:
    """This API's name of the field that REST calls `param`."""
    end = min((at for at in (param.find("."), param.find("[")) if at >= 0), default=len(param))
    return _OTHER_NAMES.get(param[:end], param[:end]) + param[end:]


def chat_body(request: chat_pb2.ChatRequest) -> dict[str, Any]:
    """The body of POST /v1/chat/completions.

    Raises:
        BadFieldError: a field holds what cannot be meant.
    """
    return {"model": request.model, "messages": [], **_body(request, _CHAT)}


def complete_body(request: complete_pb2.CompleteRequest) -> dict[str, Any]:
    """The body of POST /v1/completions.

    Raises:
        BadFieldError: a field holds what cannot be meant.
    """
    if not request.prompts:
        raise BadFieldError("prompts", "prompts: at least one is required.")
    return {"model": request.model, **_body(request, _COMPLETE)}


def embed_body(request: inference_pb2.EmbedRequest) -> dict[str, Any]:
    """The body of POST /v1/embeddings.

    Raises:
        BadFieldError: a field holds what cannot be meant.
    """
    if not request.inputs:
        raise BadFieldError("inputs", "inputs: at least one is required.")
    return {"model": request.model, **_body(request, _EMBED), "encoding_format": "float"}


def tokenize_body(request: inference_pb2.TokenizeRequest | inference_pb2.CountTokensRequest) -> dict[str, Any]:
    """The body of POST /tokenize.

    Raises:
        BadFieldError: a field holds what cannot be meant.
    """
    if request.WhichOneof("input") is None:
        raise BadFieldError("text", "text or conversation is required.")
    return {"model": request.model, **_body(request, _TOKENIZE)}


def request_of(
    route: Route,
    message: Message,
    body_of: Callable[[Any], dict[str, Any]],
    request_id: RequestId,
    *,
    streams: bool = False,
) -> InferenceRequest | Refusal:
    """The core's request in a message.

    Args:
        route: what is asked.
        message: of the kind that `body_of` takes.
        body_of: one of this module's functions of a message.
        request_id: of the request.
        streams: the answer is asked for as a stream, with its usage.
    """
    try:
        body = body_of(message)
    except BadFieldError as error:
        return invalid(str(error), param=error.field, code="invalid_value")
    if streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return read_body(route, _json_of(body), body, request_id)


def _json_of(body: Mapping[str, Any]) -> bytes:
    """A body as JSON."""
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer over 64 bits, in somebody's schema
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def detokenize_body(request: inference_pb2.DetokenizeRequest) -> dict[str, Any]:
    """The body of POST /detokenize."""
    return {"model": request.model, "tokens": list(request.token_ids)}


Put = Callable[[dict[str, Any], Any], None]
"""Writes one field's value into a body."""


def _body(message: Message, special: Mapping[str, Put]) -> dict[str, Any]:
    """Every field that is set, under its own name unless it has an entry in `special`."""
    body: dict[str, Any] = {}
    for field, value in message.ListFields():
        put = special.get(field.name)
        if field.type == FieldDescriptor.TYPE_DOUBLE and not math.isfinite(value):
            raise BadFieldError(field.name, f"{field.name}: must be a finite number (given: {value}).")
        if put is not None:
            put(body, value)
        else:
            body[field.name] = list(value) if field.is_repeated else value
    return body


def _message(message: chat_pb2.ChatMessage, place: str) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role}
    if message.HasField("content"):
        told["content"] = message.content
    if message.parts:
        if message.HasField("content"):
            raise BadFieldError(f"{place}.parts", f"{place}: content and parts exclude each other.")
        told["content"] = [_part(part, f"{place}.parts[{at}]") for at, part in enumerate(message.parts)]
    for name in ("name", "tool_call_id", "reasoning"):
        if message.HasField(name):
            told[name] = getattr(message, name)
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return told


def _part(part: chat_pb2.ContentPart, place: str) -> dict[str, Any]:
    kind = part.WhichOneof("part")
    match kind:
        case "text":
            return {"type": "text", "text": part.text}
        case "image_url":
            detail = {"detail": part.image_url.detail} if part.image_url.HasField("detail") else {}
            return {"type": kind, kind: {"url": part.image_url.url, **detail}}
        case "input_audio":
            return {
                "type": kind,
                kind: {"data": b64encode(part.input_audio.data).decode(), "format": part.input_audio.format},
            }
        case "video_url":
            return {"type": kind, kind: {"url": part.video_url.url}}
        case _:
            raise BadFieldError(place, f"{place}: a part must be text, image_url, input_audio or video_url.")


def _put_messages(body: dict[str, Any], messages: Any) -> None:
    body["messages"] = [_message(message, f"messages[{at}]") for at, message in enumerate(messages)]


def _put_tools(body: dict[str, Any], tools: Any) -> None:
    told = []
    for at, tool in enumerate(tools):
        function: dict[str, Any] = {"name": tool.name}
        if tool.HasField("description"):
            function["description"] = tool.description
        if tool.HasField("parameters"):
            function["parameters"] = _json_object(tool.parameters, f"tools[{at}].parameters")
        if tool.HasField("strict"):
            function["strict"] = tool.strict
        told.append({"type": "function", "function": function})
    body["tools"] = told


def _put_tool_choice(body: dict[str, Any], choice: chat_pb2.ToolChoice) -> None:
    if choice.WhichOneof("choice") == "function":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.function}}
    elif choice.mode in _TOOL_CHOICES:
        body["tool_choice"] = _TOOL_CHOICES[choice.mode]
    elif choice.mode != chat_pb2.ToolChoice.MODE_UNSPECIFIED:
        raise BadFieldError("tool_choice.mode", f"tool_choice.mode: there is no mode {choice.mode}.")


def _put_response_format(body: dict[str, Any], wanted: common_pb2.ResponseFormat) -> None:
    match wanted.WhichOneof("form"):
        case "json_object":
            body["response_format"] = {"type": "json_object"}
        case "json_schema":
            form = wanted.json_schema
            told: dict[str, Any] = {
                "name": form.name,
                "schema": _json_object(form.schema, "response_format.json_schema.schema"),
            }
            if form.HasField("description"):
                told["description"] = form.description
            if form.HasField("strict"):
                told["strict"] = form.strict
            body["response_format"] = {"type": "json_schema", "json_schema": told}
        case "regex":
            body["structured_outputs"] = {"regex": wanted.regex}
        case "choice":
            body["structured_outputs"] = {"choice": list(wanted.choice.choices)}
        case "grammar":
            body["structured_outputs"] = {"grammar": wanted.grammar}


def _put_logit_bias(body: dict[str, Any], biases: Mapping[int, float]) -> None:
    if not all(map(math.isfinite, biases.values())):
        raise BadFieldError("logit_bias", "logit_bias: must be finite numbers.")
    body["logit_bias"] = {str(token_id): bias for token_id, bias in biases.items()}


def _put_template_arguments(body: dict[str, Any], text: str) -> None:
    body["chat_template_kwargs"] = _json_object(text, "chat_template_kwargs")


def _put_prompts(field: str, name: str) -> Put:
    def put(body: dict[str, Any], prompts: Any) -> None:
        forms = {prompt.WhichOneof("form") for prompt in prompts}
        if len(forms) > 1 or None in forms:
            raise BadFieldError(field, f"{field}: all must be text, or all token_ids.")
        told = [list(prompt.token_ids.ids) if forms == {"token_ids"} else prompt.text for prompt in prompts]
        # A list of one is told as the one, which is what REST's clients send.
        body[name] = told[0] if len(told) == 1 else told

    return put


def _put_conversation(body: dict[str, Any], conversation: inference_pb2.Conversation) -> None:
    body["messages"] = []
    body.update(_body(conversation, _CONVERSATION))


def _put_text(body: dict[str, Any], text: str) -> None:
    body["prompt"] = text


def _put_return_strings(body: dict[str, Any], wanted: bool) -> None:  # noqa: FBT001 - a field's value
    body["return_token_strs"] = wanted


def _put_extra(kind: type[Message]) -> Put:
    taken = {field.name for field in kind.DESCRIPTOR.fields} | _EXTRA_TAKEN

    def put(body: dict[str, Any], text: str) -> None:
        extra = _json_object(text, "extra")
        for name in extra:
            if name in taken:
                raise BadFieldError("extra", f"extra: {name[:64]!r} has a field of its own in {kind.DESCRIPTOR.name}.")
        body.update(extra)

    return put


def _json_object(text: str, field: str) -> dict[str, Any]:
    try:
        return parse_object(text.encode())
    except NotStrictJsonError as error:
        raise BadFieldError(field, f"{field}: not the JSON text of an object. {error}") from error


_CONVERSATION: dict[str, Put] = {
    "messages": _put_messages,
    "tools": _put_tools,
    "chat_template_kwargs": _put_template_arguments,
}
_CHAT: dict[str, Put] = {
    **_CONVERSATION,
    "tool_choice": _put_tool_choice,
    "response_format": _put_response_format,
    "logit_bias": _put_logit_bias,
    "extra": _put_extra(chat_pb2.ChatRequest),
}
_COMPLETE: dict[str, Put] = {
    "prompts": _put_prompts("prompts", "prompt"),
    "response_format": _put_response_format,
    "logit_bias": _put_logit_bias,
    "extra": _put_extra(complete_pb2.CompleteRequest),
}
_EMBED: dict[str, Put] = {
    "inputs": _put_prompts("inputs", "input"),
    "extra": _put_extra(inference_pb2.EmbedRequest),
}
_TOKENIZE: dict[str, Put] = {
    "text": _put_text,
    "conversation": _put_conversation,
    "return_token_strings": _put_return_strings,
}
