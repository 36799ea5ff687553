from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.grpc.deltas import ChatEncoder, CompleteEncoder
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2

HEAD = {"id": "chatcmpl-1", "model": "m", "created": 1_700_000_000}
DONE = b"data: [DONE]\n\n"


def event(*choices: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + json.dumps(HEAD | {"choices": list(choices)} | more).encode() + b"\n\n"


def said(content: str | None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": {"content": content}, "logprobs": None, "finish_reason": None, **more}


def opening(index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}


def read(message: bytes) -> chat_pb2.ChatStreamResponse:
    return chat_pb2.ChatStreamResponse.FromString(message)


def begun() -> ChatEncoder:
    encoder = ChatEncoder()
    encoder.message(event(opening()))
    return encoder


def test_only_the_first_message_tells_what_holds_for_all() -> None:
    encoder = ChatEncoder()
    first = read(encoder.message(event(said("a"))))
    assert (first.id, first.model, first.created) == ("chatcmpl-1", "m", 1_700_000_000)
    assert [delta.content for delta in first.deltas] == ["a"]
    assert read(encoder.message(event(said("b")))) == chat_pb2.ChatStreamResponse(
        deltas=[chat_pb2.ChatDelta(content="b")]
    )


def test_nothing_of_a_message_is_in_the_next() -> None:
    encoder = begun()
    assert [delta.content for delta in read(encoder.message(event(said("long text")))).deltas] == ["long text"]
    last = read(encoder.message(event(said("b", finish_reason="stop"), usage={"completion_tokens": 2})))
    assert last.usage.completion_tokens == 2
    assert last.deltas[0].finish_reason == common_pb2.FINISH_REASON_STOP
    after = read(encoder.message(event(said("c"))))
    assert after == chat_pb2.ChatStreamResponse(deltas=[chat_pb2.ChatDelta(content="c")])


def test_what_says_nothing_is_no_message() -> None:
    encoder = begun()
    assert encoder.message(DONE) == b""
    assert encoder.message(event(said(None)) + event(said(""))) == b""
    assert encoder.message(b": a comment\n\n") == b""


def test_text_of_one_choice_is_joined_and_kept_apart_from_others() -> None:
    encoder = begun()
    told = read(encoder.message(event(said("a")) + event(said("x", index=1)) + event(said("b")) + DONE))
    assert {delta.index: delta.content for delta in told.deltas} == {0: "ab", 1: "x"}
    assert read(encoder.message(event(said("y", index=1)))).deltas[0].index == 1


def test_what_is_more_than_text_keeps_its_place() -> None:
    encoder = begun()
    told = read(encoder.message(event(said("a")) + event(said("b", finish_reason="length"))))
    assert [(delta.content, delta.finish_reason) for delta in told.deltas] == [
        ("a", common_pb2.FINISH_REASON_UNSPECIFIED),
        ("b", common_pb2.FINISH_REASON_LENGTH),
    ]
    told = read(encoder.message(event(said("a", token_ids=[7]))))
    assert list(told.deltas[0].token_ids) == [7]
    told = read(encoder.message(event(said("a"), prompt_token_ids=[1, 2])))
    assert (list(told.prompt_token_ids), told.deltas[0].content) == ([1, 2], "a")


def test_what_came_before_an_error_is_sent() -> None:
    encoder = begun()
    told = encoder.message(event(said("a")) + b'data: {"error": {"message": "boom", "code": 500}}\n\n')
    assert read(told).deltas[0].content == "a"
    assert encoder.error is not None


def test_completions_are_joined_alike() -> None:
    encoder = CompleteEncoder()
    for expected in ("m", ""):
        told = encoder.message(event({"index": 0, "text": "a"}) + event({"index": 0, "text": "b"}))
        message = complete_pb2.CompleteStreamResponse.FromString(told)
        assert (message.model, [delta.text for delta in message.deltas]) == (expected, ["ab"])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Events of a stream of one or two choices, as they came together."""
    choices = st.builds(said, st.text(max_size=4) | st.none(), st.integers(0, draw(st.integers(0, 1))))
    events = [event(choice) for choice in draw(st.lists(choices, max_size=12))]
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=4)))
    return [b"".join(events[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True)]


@given(streams())
def test_however_events_come_together_every_choice_gets_its_text(pieces: list[bytes]) -> None:
    encoder, texts = ChatEncoder(), {0: "", 1: ""}
    for piece in pieces:
        for delta in read(encoder.message(piece)).deltas:
            texts[delta.index] += delta.content
    expected = {0: "", 1: ""}
    for line in b"".join(pieces).splitlines():
        if line:
            choice = json.loads(line[len(b"data: ") :])["choices"][0]
            expected[choice["index"]] += choice["delta"]["content"] or ""
    assert texts == expected
