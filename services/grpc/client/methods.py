"""Every method of the API: its name on the wire, what it takes, what it gives. Both clients are made from this table.

What must not live here: how a call is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from services.grpc.generated.longreach.v1 import admin_pb2, chat_pb2, complete_pb2, inference_pb2

A = TypeVar("A", bound=Message)
INFERENCE = "longreach.v1.Inference"
ADMIN = "longreach.v1.Admin"


@dataclass(frozen=True, slots=True)
class Method(Generic[A]):
    """One method."""

    service: str
    name: str
    takes: type[Message]
    """Its fields are the method's keyword arguments, beside those of `CallOptions` (request.py)."""
    gives: type[A]
    """The answer, or each message of a stream."""
    does: str

    @property
    def path(self) -> str:
        """On the wire."""
        return f"/{self.service}/{self.name}"


CHAT = Method(
    INFERENCE, "Chat", chat_pb2.ChatRequest, chat_pb2.ChatResponse, "The assistant's next message, whole."
)  # fmt: skip
CHAT_STREAM = Method(
    INFERENCE, "ChatStream", chat_pb2.ChatRequest, chat_pb2.ChatStreamResponse,
    "The assistant's next message, as it is generated.",
)  # fmt: skip
COMPLETE = Method(
    INFERENCE, "Complete", complete_pb2.CompleteRequest, complete_pb2.CompleteResponse,
    "What follows a prompt, whole.",
)  # fmt: skip
COMPLETE_STREAM = Method(
    INFERENCE, "CompleteStream", complete_pb2.CompleteRequest, complete_pb2.CompleteStreamResponse,
    "What follows a prompt, as it is generated.",
)  # fmt: skip
EMBED = Method(INFERENCE, "Embed", inference_pb2.EmbedRequest, inference_pb2.EmbedResponse, "Vectors of texts.")
TOKENIZE = Method(
    INFERENCE, "Tokenize", inference_pb2.TokenizeRequest, inference_pb2.TokenizeResponse,
    "The token ids of a text or a conversation.",
)  # fmt: skip
DETOKENIZE = Method(
    INFERENCE, "Detokenize", inference_pb2.DetokenizeRequest, inference_pb2.DetokenizeResponse,
    "The text of token ids.",
)  # fmt: skip
COUNT_TOKENS = Method(
    INFERENCE, "CountTokens", inference_pb2.CountTokensRequest, inference_pb2.CountTokensResponse,
    "The length of a text or a conversation in tokens.",
)  # fmt: skip
LIST_MODELS = Method(
    INFERENCE, "ListModels", inference_pb2.ListModelsRequest, inference_pb2.ListModelsResponse,
    "Every name that a request's `model` may have.",
)  # fmt: skip
POOLS = Method(
    ADMIN, "Pools", admin_pb2.PoolsRequest, admin_pb2.PoolsResponse, "Every pool and how its replicas stand."
)  # fmt: skip
REPLICAS = Method(
    ADMIN, "Replicas", admin_pb2.ReplicasRequest, admin_pb2.ReplicasResponse, "Every replica with its load."
)  # fmt: skip
EXPLAIN = Method(
    ADMIN, "Explain", admin_pb2.ExplainRequest, admin_pb2.ExplainResponse,
    "Where a request would go, and why; nothing is sent.",
)  # fmt: skip
DRAIN = Method(
    ADMIN, "Drain", admin_pb2.DrainRequest, admin_pb2.DrainResponse,
    "Give a replica no new requests, or give it some again.",
)  # fmt: skip
