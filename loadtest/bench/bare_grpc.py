"""The least that a gRPC server in Python can do for a stream of tokens: what the gateway's is measured against.

`python -m loadtest.bench.bare_grpc --tokens N --itl-ms MS` prints the port it took, then serves until killed. Every
stream has a message a token, made beforehand and serialized as it is written, then one with usage. What must not live
here: the gateway, measuring.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import uvloop

from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2

SERVICE, METHOD = "longreach.v1.Inference", "ChatStream"
STAMP = "@123456789012345@ "
"""A token as the fake engine writes it, with a clock that stands still."""
PROMPT_TOKENS = 8
PR_SET_PDEATHSIG = 1


def messages_of(tokens: int) -> list[chat_pb2.ChatStreamResponse]:
    """A stream of so many tokens."""
    made = [chat_pb2.ChatStreamResponse(deltas=[chat_pb2.ChatDelta(content=STAMP)]) for _ in range(tokens)]
    made[0].id, made[0].model, made[0].created = "chatcmpl-bare-00000001", "fake", 1_700_000_000
    made[0].deltas[0].role = "assistant"
    made[-1].deltas[0].finish_reason = common_pb2.FINISH_REASON_LENGTH
    usage = common_pb2.Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=tokens, total_tokens=PROMPT_TOKENS + tokens)
    return [*made, chat_pb2.ChatStreamResponse(usage=usage)]


def streaming(tokens: int, itl_s: float) -> Callable[[Any, Any], Awaitable[None]]:
    """The method: its first token at once, the others every `itl_s` by the clock, or as fast as they go."""
    messages = messages_of(tokens)

    async def burst(_request: chat_pb2.ChatRequest, context: Any) -> None:
        for message in messages:
            await context.write(message)

    async def paced(_request: chat_pb2.ChatRequest, context: Any) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        for message in messages[:-1]:
            await asyncio.sleep(due_s - clock())
            await context.write(message)
            due_s += itl_s
        await context.write(messages[-1])

    return paced if itl_s else burst


async def serve(tokens: int, itl_s: float) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        streaming(tokens, itl_s),
        request_deserializer=chat_pb2.ChatRequest.FromString,
        response_serializer=chat_pb2.ChatStreamResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.bare_grpc")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    options = parser.parse_args()
    # Nobody is left behind when the bench is killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options.tokens, options.itl_ms / 1000))


if __name__ == "__main__":
    main()
