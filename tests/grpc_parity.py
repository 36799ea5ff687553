"""Requests generated for both APIs at once, and their answers brought to one form.

Every case is written twice, by hand and independently of the product: as the JSON body of REST and as the message of
gRPC. What must not live here: sending, judging.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2, inference_pb2
from tests.grpc_values import CHAT, COMPLETE, WEATHER, WEATHER_TOOL, Value


@dataclass(frozen=True)
class Case:
    """One request, twice."""

    name: str
    path: str
    method: str
    body: Mapping[str, Any]
    message: Message
    headers: Mapping[str, str] = field(default_factory=dict)


def user(text: str) -> tuple[dict[str, Any], chat_pb2.ChatMessage]:
    """A user's message."""
    return {"role": "user", "content": text}, chat_pb2.ChatMessage(role="user", content=text)


def conversations() -> list[tuple[list[dict[str, Any]], list[chat_pb2.ChatMessage]]]:
    """Conversations with every kind of message and part, good and bad."""
    hello, hello_message = user("Say hello.")
    system = {"role": "system", "content": "Be brief. 简短。", "name": "boss"}
    system_message = chat_pb2.ChatMessage(role="system", content="Be brief. 简短。", name="boss")
    said = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a": "yes"}'}}],
    }
    said_message = chat_pb2.ChatMessage(
        role="assistant",
        content="Let me see.",
        reasoning="hm",
        tool_calls=[chat_pb2.ToolCall(id="c1", name="weather", arguments='{"a": "yes"}')],
    )
    result = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
    result_message = chat_pb2.ChatMessage(role="tool", tool_call_id="c1", content="sunny")
    texts = {"role": "user", "content": [{"type": "text", "text": "Two "}, {"type": "text", "text": "parts"}]}
    texts_message = chat_pb2.ChatMessage(
        role="user", parts=[chat_pb2.ContentPart(text="Two "), chat_pb2.ContentPart(text="parts")]
    )
    found = [
        ([system, hello], [system_message, hello_message]),
        ([hello, said, result], [hello_message, said_message, result_message]),
        ([texts], [texts_message]),
        ([], []),
        ([{"role": "", "content": "x"}], [chat_pb2.ChatMessage(role="", content="x")]),
        ([{"role": "user"}], [chat_pb2.ChatMessage(role="user")]),
    ]
    media: list[tuple[dict[str, Any], chat_pb2.ContentPart]] = [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            chat_pb2.ContentPart(image_url=chat_pb2.ImageUrl(url="data:image/png;base64,AAAA", detail="low")),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            chat_pb2.ContentPart(input_audio=chat_pb2.InputAudio(data=b"RIFF", format="wav")),
        ),
        (
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
            chat_pb2.ContentPart(video_url=chat_pb2.VideoUrl(url="data:video/mp4;base64,AAAA")),
        ),
    ]
    # These models neither see nor hear: both APIs must say so in the same words.
    found += [
        ([{"role": "user", "content": [rest]}], [chat_pb2.ChatMessage(role="user", parts=[part])])
        for rest, part in media
    ]
    return found


def cases(seed: int) -> list[Case]:
    """Every value of every field, each with a few others at random; both whole and streamed."""
    rng = random.Random(seed)
    made = [*_chats(rng), *_completions(rng), *_others()]
    rng.shuffle(made)
    return made


def _chats(rng: random.Random) -> Iterator[Case]:
    hello = user("Say hello.")
    for at, value in enumerate(CHAT):
        yield _chat(
            f"chat field {at} {list(value.rest)}", [hello], [value, *_company(rng, CHAT, value)], stream=at % 2 == 0
        )
    for at, (rest, messages) in enumerate(conversations()):
        yield _chat(f"conversation {at}", list(zip(rest, messages, strict=True)), [], stream=at % 2 == 1)
    for model in ("tiny-alias", "nobody", ""):
        yield _chat(f"chat model {model!r}", [hello], [], model=model)
    yield _chat("chat priority", [hello], [], headers={"x-longreach-priority": "highest"})
    yield _chat("chat timeout", [hello], [], headers={"x-request-timeout-s": "soon"})


def _chat(
    name: str,
    messages: Iterable[tuple[dict[str, Any], chat_pb2.ChatMessage]],
    values: list[Value],
    *,
    model: str = "tiny",
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Case:
    pairs = list(messages)
    body: dict[str, Any] = {"model": model, "messages": [rest for rest, _ in pairs], **_DEFAULTS}
    message = chat_pb2.ChatRequest(model=model, messages=[message for _, message in pairs])
    message.max_completion_tokens, message.temperature, message.return_token_ids, message.seed = 6, 0.0, True, 7
    _apply(values, body, message)
    method = "ChatStream" if stream else "Chat"
    return Case(name, "/v1/chat/completions", method, body, message, headers or {})


_DEFAULTS = {"max_completion_tokens": 6, "temperature": 0.0, "return_token_ids": True, "seed": 7}
_PLAIN_DEFAULTS = {"max_tokens": 6, "temperature": 0.0, "return_token_ids": True, "seed": 7}


def _completions(rng: random.Random) -> Iterator[Case]:
    one = [common_pb2.Prompt(text="Once upon a time")]
    for at, value in enumerate(COMPLETE):
        values = [value, *_company(rng, COMPLETE, value)]
        # The engine takes no echo in a stream of several; whatever it says, both must say it.
        yield _complete(f"complete field {at} {list(value.rest)}", "Once upon a time", one, values, stream=at % 2 == 1)
    ids = common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=[5, 6, 7, 8]))
    yield _complete("complete ids", [5, 6, 7, 8], [ids], [])
    yield _complete("complete lists of ids", [[5, 6, 7, 8]] * 2, [ids, ids], [], stream=True)
    yield _complete("complete texts", ["Once", "Twice"], [common_pb2.Prompt(text=t) for t in ("Once", "Twice")], [])
    yield _complete("complete negative id", [-1], [common_pb2.Prompt(token_ids=common_pb2.TokenIds(ids=[-1]))], [])
    yield _complete("complete empty", "", [common_pb2.Prompt(text="")], [])
    yield _complete("complete nobody", "x", one, [], model="nobody")


def _complete(
    name: str,
    prompt: Any,
    prompts: list[common_pb2.Prompt],
    values: list[Value],
    *,
    model: str = "tiny",
    stream: bool = False,
) -> Case:
    body: dict[str, Any] = {"model": model, "prompt": prompt, **_PLAIN_DEFAULTS}
    message = complete_pb2.CompleteRequest(model=model, prompts=prompts)
    message.max_tokens, message.temperature, message.return_token_ids, message.seed = 6, 0.0, True, 7
    _apply(values, body, message)
    return Case(name, "/v1/completions", "CompleteStream" if stream else "Complete", body, message)


def _company(rng: random.Random, among: list[Value], value: Value) -> list[Value]:
    """Up to two other fields; never one that `value` sets, nor two for one field."""
    if isinstance(value.rest.get("chat_template_kwargs"), list):
        return []  # gRPC finds out about text that is no object before anything else
    taken = set(value.rest) | {"response_format", "structured_outputs", "tools", "tool_choice"}
    chosen: list[Value] = []
    for other in rng.sample(among, 6):
        if len(chosen) < rng.randrange(3) and taken.isdisjoint(other.rest):
            chosen.append(other)
            taken |= set(other.rest)
    return chosen


def _apply(values: list[Value], body: dict[str, Any], message: Message) -> None:
    for value in values:
        body.update(value.rest)
        value.fill(message)


def _others() -> Iterator[Case]:
    rest, message = user("Say hello.")
    tool = {**WEATHER}
    conversation = inference_pb2.Conversation(
        messages=[message],
        tools=[WEATHER_TOOL],
        add_generation_prompt=False,
        continue_final_message=True,
        chat_template_kwargs='{"x": 1}',
    )
    told = {
        "messages": [rest], "tools": [tool], "add_generation_prompt": False, "continue_final_message": True,
        "chat_template_kwargs": {"x": 1},
    }  # fmt: skip
    for method, kind in (
        ("Tokenize", inference_pb2.TokenizeRequest),
        ("CountTokens", inference_pb2.CountTokensRequest),
    ):
        yield Case(
            f"{method} text", "/tokenize", method,
            {"model": "tiny", "prompt": "Wie weit? 多远?", "add_special_tokens": False},
            kind(model="tiny", text="Wie weit? 多远?", add_special_tokens=False),
        )  # fmt: skip
        yield Case(
            f"{method} conversation", "/tokenize", method, {"model": "tiny", **told},
            kind(model="tiny", conversation=conversation),
        )  # fmt: skip
        yield Case(
            f"{method} no messages", "/tokenize", method, {"model": "tiny", "messages": []},
            kind(model="tiny", conversation=inference_pb2.Conversation()),
        )  # fmt: skip
        yield Case(f"{method} nobody", "/tokenize", method, {"model": "x", "prompt": "y"}, kind(model="x", text="y"))
    yield Case(
        "Tokenize strings", "/tokenize", "Tokenize",
        {"model": "tiny", "prompt": "Hello there", "return_token_strs": True},
        inference_pb2.TokenizeRequest(model="tiny", text="Hello there", return_token_strings=True),
    )  # fmt: skip
    for ids in ([5, 6, 7], [], [-1], [2_000_000_000]):
        yield Case(
            f"Detokenize {ids}", "/detokenize", "Detokenize", {"model": "tiny", "tokens": ids},
            inference_pb2.DetokenizeRequest(model="tiny", token_ids=ids),
        )  # fmt: skip
    embed = inference_pb2.EmbedRequest(
        model="tiny", inputs=[common_pb2.Prompt(text="a"), common_pb2.Prompt(text="b")], dimensions=4,
        truncate_prompt_tokens=3, extra='{"user": "u"}',
    )  # fmt: skip
    yield Case(
        "Embed", "/v1/embeddings", "Embed",
        {"model": "tiny", "input": ["a", "b"], "dimensions": 4, "truncate_prompt_tokens": 3, "user": "u"}, embed,
    )  # fmt: skip
    yield Case(
        "Embed dimensions", "/v1/embeddings", "Embed", {"model": "tiny", "input": "a", "dimensions": 0},
        inference_pb2.EmbedRequest(model="tiny", inputs=[common_pb2.Prompt(text="a")], dimensions=0),
    )  # fmt: skip


REQUESTS: tuple[type[Message], ...] = (
    chat_pb2.ChatRequest, complete_pb2.CompleteRequest, inference_pb2.EmbedRequest, inference_pb2.TokenizeRequest,
    inference_pb2.CountTokensRequest, inference_pb2.DetokenizeRequest,
)  # fmt: skip


def all_fields() -> set[str]:
    """Every field that a request to the Inference service can have, by its full name."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting: list[Any] = [kind.DESCRIPTOR for kind in REQUESTS]
    while waiting:
        descriptor: Descriptor = waiting.pop()
        if descriptor.full_name in seen:
            continue
        seen.add(descriptor.full_name)
        for one in descriptor.fields:
            found.add(one.full_name)
            if one.type == FieldDescriptor.TYPE_MESSAGE and not one.message_type.GetOptions().map_entry:
                waiting.append(one.message_type)
    return found


def used_fields(message: Message) -> set[str]:
    """Every field set somewhere in `message`."""
    found = set()
    for one, value in message.ListFields():
        found.add(one.full_name)
        if one.type == FieldDescriptor.TYPE_MESSAGE and not one.message_type.GetOptions().map_entry:
            for inner in value if one.is_repeated else [value]:
                found |= used_fields(inner)
    return found
