"""What a request asks the model to read, once the wire format is gone.

What lives here: the forms a prompt can take, and how sure a token count of one is. What must not: JSON, templates,
tokenizers (services/gateway counts), the APIs that a prompt came from (services/rest builds these).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cluster.core.budget.features import PromptFeatures


class CountKind(StrEnum):
    """How a token count relates to what the engine will count."""

    EXACT = "exact"
    AT_MOST = "at most"
    """An upper bound: enough to know that a window holds the prompt."""
    ABOUT = "about"
    """An estimate: it may be off either way, so it alone refuses nothing that a replica could verify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """The length of a prompt in tokens, and how sure that is."""

    tokens: int
    """What decides where the prompt fits: the count, the bound, or of an estimate the upper end."""
    kind: CountKind
    expected_tokens: int | None = None
    """The most likely length, for weighing work; None where `tokens` is that."""
    low_tokens: int | None = None
    """With `high_tokens`: the interval of an estimate; None where there is none."""
    high_tokens: int | None = None
    features: PromptFeatures | None = field(default=None, repr=False, compare=False)
    """What to teach with once the true length is known; None where there is nothing to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages that the model's chat template turns into text."""

    messages: tuple[Mapping[str, Any], ...]
    """In the form chat templates know: role, content, tool_calls."""
    tools: tuple[Mapping[str, Any], ...] = ()
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, add_generation_prompt among them."""
    is_faithful: bool = True
    """Whether the engine will render exactly this; False where another API's form was converted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Plain texts, each a prompt of its own; the longest decides."""

    texts: tuple[str, ...]
    add_special_tokens: bool = True
    is_faithful: bool = True
    """As in `Conversation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """Prompts that come as token ids: their length is known."""

    longest_tokens: int
    prompts: int = 1


Prompt = Conversation | Texts | TokenIds
