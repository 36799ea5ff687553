"""The gateway's client over gRPC, with the face of the one over HTTP (client.py) that the command line needs.

What must not live here: printing, and how calls are made (services/grpc/client).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from cluster.core.errors import SetupError
from cluster.core.wire import HEADER_POOL, HEADER_REASON, HEADER_REPLICA
from cluster.local.client import ChatAnswer, GatewayRefusedError, Message
from services.grpc.client import Client, GrpcCallError, RetryPolicy, Stream, Tls
from services.grpc.generated.longreach.v1.chat_pb2 import ChatStreamResponse
from services.grpc.generated.longreach.v1.common_pb2 import FinishReason

PLAIN, WITH_TLS = "grpc", "grpcs"
MAY_PASS = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""Refusals of a gateway that has no replica yet, or too few."""
DEADLINE_S = 3600.0
"""As long as a gateway lets a request take that names no deadline (gateway.limits.request_s)."""


def connect(url: str, *, api_key: str | None, ca_file: Path | None = None, timeout_s: float = DEADLINE_S) -> Client:
    """A client of the gateway at `url`: host:port, grpc://host:port, or grpcs://host:port for TLS.

    Args:
        url: its address.
        api_key: sent with every call, where there is one.
        ca_file: vouches for a grpcs:// gateway; None: the usual authorities.
        timeout_s: of one call, to its end.

    Raises:
        SetupError: that is no such address, or the key cannot travel.
    """
    parts = urlsplit(url if "://" in url else f"{PLAIN}://{url}")
    try:
        is_address = parts.scheme in {PLAIN, WITH_TLS} and parts.hostname and parts.port and parts.path in {"", "/"}
    except ValueError:
        is_address = False
    if not is_address:
        raise SetupError(f"{url} is no address of gRPC", f"name it as host:port; {WITH_TLS}://host:port is with TLS")
    # Nothing is tried again: who sits before it sees the refusal, and when to come back, at once.
    return Client(
        parts.netloc,
        api_key=api_key,
        tls=Tls(root_file=ca_file) if parts.scheme == WITH_TLS else None,
        timeout_s=timeout_s,
        retries=RetryPolicy(attempts=1),
    )


@contextlib.contextmanager
def refusals(url: str) -> Iterator[None]:
    """Turns what calls raise into the refusal that the command line reports."""
    try:
        yield
    except GrpcCallError as error:
        # What a gateway says has a reason; who has none was not reached.
        if error.code is grpc.StatusCode.UNAVAILABLE and error.reason is None:
            raise GatewayRefusedError(
                f"no gateway answers gRPC at {url} ({error.message})\n  remedy: start a cluster with `longreach up`",
                may_pass=True,
            ) from error
        raise GatewayRefusedError(f"the gateway answered {error}", may_pass=error.code in MAY_PASS) from error
    except ValueError as error:
        raise GatewayRefusedError(f"{url}: {error}") from error


class GrpcGatewayClient:
    """Talks to one gateway.

    Args:
        url: its address, as `connect` takes it.
        api_key: sent with every call, where there is one.
        ca_file: as for `connect`.
        timeout_s: as for `connect`.
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, ca_file: Path | None = None, timeout_s: float = DEADLINE_S
    ) -> None:
        self.url = url
        self._client = connect(url, api_key=api_key, ca_file=ca_file, timeout_s=timeout_s)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    @contextlib.contextmanager
    def chat(self, messages: Sequence[Message], *, model: str, max_tokens: int | None = None) -> Iterator[ChatAnswer]:
        """Ask for a streamed chat; leaving the context cancels what has not arrived.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses, here or while iterating.
        """
        sent_at = time.monotonic()
        with refusals(self.url):
            stream = self._client.chat_stream(model=model, messages=list(messages), max_completion_tokens=max_tokens)
        with stream:
            with refusals(self.url):
                told = stream.metadata
            yield ChatAnswer(
                events=_events(stream),
                sent_at=sent_at,
                pool=told.get(HEADER_POOL, "?"),
                replica=told.get(HEADER_REPLICA, "?"),
                reason=told.get(HEADER_REASON, "?"),
            )

    def count_tokens(self, messages: Sequence[Message], *, model: str) -> int:
        """The prompt's length in tokens, chat template included.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses.
        """
        with refusals(self.url):
            return self._client.count_tokens(model=model, conversation={"messages": list(messages)}).count

    def models(self) -> list[dict[str, Any]]:
        """The model list, in the form that REST's has.

        Raises:
            GatewayRefusedError: the gateway cannot be reached or refuses.
        """
        with refusals(self.url):
            models = self._client.list_models().models
        return [{"id": one.id, "max_model_len": one.max_context_tokens} for one in models]

    def default_model(self) -> str:
        """The first model on the list.

        Raises:
            GatewayRefusedError: the gateway cannot be reached, refuses, or has no model.
        """
        models = self.models()
        if not models:
            raise GatewayRefusedError(f"{self.url} has no model")
        return str(models[0]["id"])


def _events(stream: Stream[ChatStreamResponse]) -> Iterator[dict[str, Any]]:
    """A stream's messages in OpenAI's form."""
    try:
        for message in stream:
            yield _event(message)
    except GrpcCallError as error:
        raise GatewayRefusedError(f"the answer broke off: {error}") from error


def _event(message: ChatStreamResponse) -> dict[str, Any]:
    choices = [
        {"delta": {"content": delta.content}, "finish_reason": _finish_reason(delta.finish_reason)}
        for delta in message.deltas
    ]
    event: dict[str, Any] = {"model": message.model, "choices": choices}
    if message.HasField("usage"):
        event["usage"] = _usage(message)
    return event


def _usage(message: ChatStreamResponse) -> Mapping[str, Any]:
    usage = message.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens if usage.HasField("cached_tokens") else None},
    }


def _finish_reason(reason: FinishReason) -> str | None:
    return FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower() if reason else None
