"""The fields of each route's body that the gateway reads or that clients get wrong, with their bounds.

Everything else passes to the engine as it came: `extra="allow"`. What must not live here: what the fields mean.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from cluster.core.request import Route

MAX_CHOICES = 128
"""OpenAI's own bound on n; each is a sequence in the engine."""
INT64 = 2**63 - 1

ModelName = Annotated[StrictStr, Field(min_length=1, max_length=256)]
Positive = Annotated[StrictInt, Field(ge=1, le=INT64)]
NotNegative = Annotated[StrictInt, Field(ge=0, le=INT64)]
Seed = Annotated[StrictInt, Field(ge=-INT64 - 1, le=INT64)]
Number = Annotated[float, Field(strict=True)]
Temperature = Annotated[Number, Field(ge=0, le=2)]
Share = Annotated[Number, Field(gt=0, le=1)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
TopLogprobs = Annotated[StrictInt, Field(ge=-1)]


class Message(BaseModel):
    """One message; its content is the engine's to judge."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[StrictStr, Field(min_length=1)]
    content: StrictStr | list[StrictStr | dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Body(BaseModel):
    """What every route's body has."""

    model_config = ConfigDict(extra="allow")

    model: ModelName


class Sampling(Body):
    """What every generating route's body may have."""

    stream: StrictBool | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    top_k: StrictInt | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    truncate_prompt_tokens: Annotated[StrictInt, Field(ge=-1, le=INT64)] | None = None


class OpenAiSampling(Sampling):
    """What chat and completions share."""

    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Seed | None = None
    stop: StrictStr | list[StrictStr] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Number] | None = None
    stream_options: dict[str, Any] | None = None
    priority: StrictInt | None = None


class ChatBody(OpenAiSampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: dict[str, Any] | None = None


class CompletionBody(OpenAiSampling):
    """POST /v1/completions."""

    prompt: Any
    max_tokens: Annotated[NotNegative, Field(description="0 only with echo")] | None = None
    echo: StrictBool | None = None
    logprobs: TopLogprobs | None = None


class ResponsesBody(Sampling):
    """POST /v1/responses."""

    input: StrictStr | list[dict[str, Any]]
    instructions: StrictStr | None = None
    max_output_tokens: Positive | None = None
    tools: list[dict[str, Any]] | None = None
    background: StrictBool | None = None
    previous_response_id: StrictStr | None = None
    conversation: StrictStr | dict[str, Any] | None = None


class MessagesBody(Sampling):
    """POST /v1/messages, Anthropic's API."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Positive | None = None
    system: StrictStr | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    stop_sequences: list[StrictStr] | None = None


class EmbeddingsBody(Body):
    """POST /v1/embeddings."""

    input: Any = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    dimensions: Positive | None = None
    truncate_prompt_tokens: Annotated[StrictInt, Field(ge=-1, le=INT64)] | None = None


class RerankBody(Body):
    """POST /v1/rerank."""

    query: StrictStr | dict[str, Any]
    documents: list[StrictStr | dict[str, Any]] | dict[str, Any]
    top_n: StrictInt | None = None
    truncate_prompt_tokens: Annotated[StrictInt, Field(ge=-1, le=INT64)] | None = None


class TokenizeBody(Body):
    """POST /tokenize: a prompt or messages."""

    prompt: StrictStr | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    tokens: list[Any]


BODIES: dict[Route, type[Body]] = {
    Route.CHAT: ChatBody,
    Route.COMPLETIONS: CompletionBody,
    Route.RESPONSES: ResponsesBody,
    Route.MESSAGES: MessagesBody,
    Route.EMBEDDINGS: EmbeddingsBody,
    Route.RERANK: RerankBody,
    Route.TOKENIZE: TokenizeBody,
    Route.DETOKENIZE: DetokenizeBody,
}
