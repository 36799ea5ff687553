"""One request as the core sees it: what is asked, in numbers, after the wire format is gone.

What lives here: routes, the frozen request, what it needs of a context window. What must not: JSON, HTTP, gRPC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NewType

from cluster.core.prompt import CountKind, Prompt, PromptTokens

RequestId = NewType("RequestId", str)


class Route(StrEnum):
    """What a client asks for; the value is the path below /v1 (without /v1 for the last three)."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"

    @property
    def generates(self) -> bool:
        """Whether an answer takes output tokens out of the context window."""
        return self in _GENERATING

    @property
    def is_metered(self) -> bool:
        """Whether an answer costs a model's work, which is counted as usage."""
        return self not in _FREE

    @property
    def output_field(self) -> str:
        """The JSON field that bounds the output; empty for routes that generate nothing."""
        return _OUTPUT_FIELD.get(self, "")


_OUTPUT_FIELD = {
    Route.CHAT: "max_completion_tokens",
    Route.COMPLETIONS: "max_tokens",
    Route.RESPONSES: "max_output_tokens",
    Route.MESSAGES: "max_tokens",
}
_GENERATING = frozenset(_OUTPUT_FIELD)
_FREE = frozenset({Route.TOKENIZE, Route.DETOKENIZE})

COMPLETIONS_DEFAULT_OUTPUT_TOKENS = 16
"""What the completions API promises when max_tokens is absent (OpenAI API reference; vLLM keeps it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """A decoded request; `body` is the client's own bytes."""

    request_id: RequestId
    route: Route
    model: str
    body: bytes
    stream: bool = False
    requested_output_tokens: int | None = None
    """What the client asked for; None when it said nothing."""
    prompt: Prompt | None = None
    """What the model reads; None for routes that need no context window (tokenize, detokenize)."""
    truncate_prompt_tokens: int | None = None
    """The client lets the engine cut the prompt to this length; -1 means to whatever the window holds."""
    given: frozenset[str] = frozenset()
    """The body's top-level fields that are not null: whether it must be rewritten shows without reading it again."""
    wants_usage: bool = False
    """The client asked for the usage event at a stream's end."""
    priority: int | None = None
    """vLLM's number, lower first; None when the client gave none. What is granted is the gateway's to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPolicy:
    """An operator's rule for one model: what a silent request gets, and the most that may be asked for."""

    default_tokens: int
    max_tokens: int | None = None
    grows: bool = False
    """Streams are placed for `default_tokens` of output at most, and go on in a larger pool where they need more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverCap:
    """The request asks for more output than the operator allows."""

    requested_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextNeed:
    """What a request needs of a context window, in tokens.

    `output_tokens` is a demand when the client named it (`is_explicit`), else the operator's default, which may
    shrink to what the largest pool leaves free: a client that named no number is promised none.
    """

    prompt_tokens: int
    output_tokens: int
    is_explicit: bool
    count: CountKind = CountKind.EXACT
    """How sure `prompt_tokens` is. It decides what fits, so of an estimate it is the upper end."""
    likely_prompt_tokens: int | None = None
    """The most likely length where `prompt_tokens` is a bound or an upper end; None where it is that itself."""

    @property
    def expected_prompt_tokens(self) -> int:
        """The prompt's most likely length: what weighs work."""
        return self.prompt_tokens if self.likely_prompt_tokens is None else self.likely_prompt_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and output together."""
        return self.prompt_tokens + self.output_tokens

    @property
    def likely_total_tokens(self) -> int:
        """The same with the prompt's most likely length: what a preference goes by, where nothing must fit."""
        return self.expected_prompt_tokens + self.output_tokens


def context_need(
    request: InferenceRequest, *, prompt: PromptTokens, output: tuple[int, bool], largest_context_tokens: int
) -> ContextNeed:
    """What `request` needs, given its prompt's length.

    Args:
        request: what the client asked.
        prompt: the length of its prompt, before any cut the client allows.
        output: what `output_need` says.
        largest_context_tokens: the limit of the model's largest pool: what "cut it to fit" means.
    """
    output_tokens, is_explicit = output
    prompt_tokens, likely_tokens = prompt.tokens, prompt.expected_tokens
    cut = request.truncate_prompt_tokens
    if cut is not None:
        kept = max(largest_context_tokens - output_tokens, 1) if cut < 0 else cut
        prompt_tokens = min(prompt_tokens, kept)
        likely_tokens = None if likely_tokens is None else min(likely_tokens, kept)
    return ContextNeed(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        is_explicit=is_explicit,
        count=prompt.kind,
        likely_prompt_tokens=likely_tokens,
    )


def growing(need: ContextNeed, policy: OutputPolicy, *, largest_context_tokens: int) -> tuple[ContextNeed, int | None]:
    """What a stream that can change its pool needs at first, and the most output it may have; None: no more than that.

    Args:
        need: with the whole output.
        policy: of its model.
        largest_context_tokens: the limit of the model's largest pool; what is over it is refused as ever.
    """
    if not policy.grows or need.total_tokens > largest_context_tokens:
        return need, None
    if not need.is_explicit:
        return need, policy.max_tokens or largest_context_tokens
    if need.output_tokens <= policy.default_tokens:
        return need, None
    return replace(need, output_tokens=policy.default_tokens), need.output_tokens


def outgrown(need: ContextNeed, context_tokens: int) -> ContextNeed:
    """What a stream needs that has filled a context: one token more, at least."""
    output_tokens = max(need.output_tokens, context_tokens - need.prompt_tokens + 1)
    return replace(need, output_tokens=output_tokens, is_explicit=False)


def output_need(request: InferenceRequest, policy: OutputPolicy) -> tuple[int, bool] | OverCap:
    """The output tokens to plan for, and whether the client named them; it needs no look at the prompt."""
    asked = request.requested_output_tokens
    if not request.route.generates:
        return 0, True
    if asked is None:
        default = policy.default_tokens
        if request.route is Route.COMPLETIONS:
            default = min(default, COMPLETIONS_DEFAULT_OUTPUT_TOKENS)
        return default, False
    if policy.max_tokens is not None and asked > policy.max_tokens:
        return OverCap(requested_tokens=asked, max_tokens=policy.max_tokens)
    return asked, True
