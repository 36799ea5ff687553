"""Requests over gRPC: grpc.aio alone, without the retries and streams of services/grpc/client.

What must not live here: when requests go out (runner.py).
"""

from __future__ import annotations

import time
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from cluster.core.wire import HEADER_POOL, HEADER_REPLICA
from loadtest.client.aim import ANSWER_BYTES_MAX, Aim, Ask
from loadtest.client.answer import Answer, ErrorKind, kind_of
from loadtest.plan import Kind
from services.grpc.client.channel import (
    MESSAGE_MAX_BYTES,
    Balancing,
    Tls,
    credentials_of,
    options_of,
    target_of,
)
from services.grpc.client.errors import read_details
from services.grpc.client.methods import CHAT, CHAT_STREAM, COMPLETE, COMPLETE_STREAM, Method
from services.grpc.generated.longreach.v1 import chat_pb2, common_pb2, complete_pb2

CHANNELS = 4
"""Connections of one client process: one alone is one thread's work in some servers, and one window in all."""
OK = 200
WITH_TLS = "grpcs"
STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""REST's status for each code: services/grpc/status.py, read backwards; any other is 500."""
BAD_GATEWAY = 502
BAD_GATEWAY_CODE = "upstream_broken"
"""The one refusal of 502; as UNAVAILABLE it shares its code with those of 503."""
STREAMED: dict[Kind, Method[Any]] = {Kind.CHAT: CHAT_STREAM, Kind.COMPLETION: COMPLETE_STREAM}
WHOLE: dict[Kind, Method[Any]] = {Kind.CHAT: CHAT, Kind.COMPLETION: COMPLETE}


class GrpcTransport:
    """Sends to one gateway; needs the running loop."""

    def __init__(self, aim: Aim) -> None:
        """Open channels; nothing is sent yet.

        Args:
            aim: where to.

        Raises:
            SetupError: the CA file cannot be read.
        """
        parts = urlsplit(aim.url if "://" in aim.url else f"grpc://{aim.url}")
        address = parts.netloc
        # Else all channels to one address share a connection.
        options = [
            *options_of(address, Balancing.PICK_FIRST, MESSAGE_MAX_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = target_of(address)
        self._aim = aim
        if parts.scheme == WITH_TLS:
            credentials = credentials_of(Tls(root_file=aim.ca_file))
            self._channels = [grpc.aio.secure_channel(target, credentials, options) for _ in range(CHANNELS)]
        else:
            self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(CHANNELS)]
        methods = STREAMED if aim.streams else WHOLE
        self._begins = {
            kind: cycle([self._begin(channel, method) for channel in self._channels])
            for kind, method in methods.items()
        }

    def prepare(self, ask: Ask) -> tuple[Kind, Message, tuple[tuple[str, str], ...], bool]:
        """Message and metadata."""
        return ask.kind, message_of(ask, self._aim), tuple(ask.headers.items()), ask.wants_text

    async def send(self, prepared: object, answer: Answer, *, deadline_s: float) -> None:
        """As `Transport.send`."""
        assert isinstance(prepared, tuple)
        kind, message, metadata, wants_text = prepared
        answer.sent_s, answer.is_stream = time.monotonic(), self._aim.streams
        left_s = max(deadline_s - answer.sent_s, 0.0)
        call = next(self._begins[kind])(message, timeout=left_s, metadata=metadata)
        try:
            if self._aim.streams:
                await _read_stream(call, answer, keeps_text=wants_text)
            else:
                await _read_whole(call, answer, keeps_text=wants_text)
        except grpc.aio.AioRpcError as failure:
            _fail(answer, failure)
        answer.ended_s = time.monotonic()

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels:
            await channel.close()

    def _begin(self, channel: Any, method: Method[Any]) -> Any:
        kind = channel.unary_stream if self._aim.streams else channel.unary_unary
        return kind(method.path, method.takes.SerializeToString, method.gives.FromString)


async def _read_stream(call: Any, answer: Answer, *, keeps_text: bool) -> None:
    texts: list[str] = []
    ids: list[int] = []
    held = 0
    async for message in call:
        now_s = time.monotonic()
        if not answer.status:
            answer.status = OK
            _read_metadata(answer, await call.initial_metadata())
        # Of chat and completions: the field that a delta's text is in.
        said = "".join(getattr(delta, "content", "") or getattr(delta, "text", "") for delta in message.deltas)
        if said:
            answer.event_times.append(now_s)
        if keeps_text:
            texts.append(said)
            ids += [one for delta in message.deltas for one in delta.token_ids]
            held += len(said)
        if message.HasField("usage"):
            _read_usage(answer, message.usage)
        if held > ANSWER_BYTES_MAX:
            call.cancel()
            answer.fail(ErrorKind.CLIENT, "answer_too_long")
            break
    if keeps_text:
        answer.said, answer.token_ids = lambda: "".join(texts), lambda: ids


async def _read_whole(call: Any, answer: Answer, *, keeps_text: bool) -> None:
    message = await call
    answer.event_times.append(time.monotonic())
    answer.status = OK
    _read_metadata(answer, await call.initial_metadata())
    _read_usage(answer, message.usage)
    if keeps_text and message.choices:
        choice = message.choices[0]
        said = choice.text if isinstance(message, complete_pb2.CompleteResponse) else choice.message.content
        answer.said, answer.token_ids = lambda: str(said), lambda: list(choice.token_ids)


def _read_metadata(answer: Answer, metadata: Any) -> None:
    told = dict(metadata)
    answer.pool, answer.replica = told.get(HEADER_POOL, ""), told.get(HEADER_REPLICA, "")


def _read_usage(answer: Answer, usage: common_pb2.Usage) -> None:
    answer.prompt_tokens, answer.output_tokens = usage.prompt_tokens, usage.completion_tokens
    answer.cached_tokens = usage.cached_tokens


def _fail(answer: Answer, failure: grpc.aio.AioRpcError) -> None:
    details = read_details(failure.trailing_metadata() or (), "")
    code = (details.reason or "").lower()
    if answer.status:
        is_own = failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not code
        answer.fail(ErrorKind.TIMEOUT if is_own else ErrorKind.BROKEN, code or failure.code().name.lower())
        return
    if not code and failure.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        # Only a gateway sends details: this came from gRPC itself, and no answer began.
        is_late = failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        answer.fail(
            ErrorKind.TIMEOUT if is_late else ErrorKind.CONNECTION,
            "client_timeout" if is_late else "unavailable",
        )
        return
    status = BAD_GATEWAY if code == BAD_GATEWAY_CODE else STATUS.get(failure.code(), 500)
    answer.status = status
    answer.fail(kind_of(status), code)


def message_of(ask: Ask, aim: Aim) -> Message:
    """The request's message."""
    if ask.kind is Kind.CHAT:
        messages = [chat_pb2.ChatMessage(role=role, content=text) for role, text in ask.messages]
        return chat_pb2.ChatRequest(
            model=aim.model,
            messages=messages,
            max_completion_tokens=ask.output_tokens,
            temperature=aim.temperature,
            ignore_eos=ask.is_exact or None,
            return_token_ids=aim.wants_token_ids or None,
        )
    return complete_pb2.CompleteRequest(
        model=aim.model,
        prompts=[common_pb2.Prompt(text=ask.messages[0][1])],
        max_tokens=ask.output_tokens,
        temperature=aim.temperature,
        ignore_eos=ask.is_exact or None,
        return_token_ids=aim.wants_token_ids or None,
    )
