from __future__ import annotations

from typing import Any

from loadtest.bench.bare_grpc import STAMP, messages_of, streaming
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2


class Wire:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def write(self, message: Any) -> None:
        self.messages.append(message)


def test_a_stream_has_a_message_a_token_and_one_with_usage() -> None:
    *tokens, last = messages_of(3)
    assert [[delta.content for delta in message.deltas] for message in tokens] == [[STAMP]] * 3
    assert (tokens[0].model, tokens[0].deltas[0].role) == ("fake", "assistant")
    assert tokens[-1].deltas[0].finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert (len(last.deltas), last.usage.completion_tokens) == (0, 3)


async def test_burst_and_paced_streams_write_the_same() -> None:
    burst, paced = Wire(), Wire()
    await streaming(3, 0.0)(chat_pb2.ChatRequest(), burst)
    await streaming(3, 0.001)(chat_pb2.ChatRequest(), paced)
    assert burst.messages == paced.messages == messages_of(3)
