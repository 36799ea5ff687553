"""Upper bounds of a prompt's length that need no tokenizing.

What must not live here: estimates, counting.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.prompt import Conversation, CountKind, PromptTokens, Texts
from services.gateway.estimate import Reading
from services.gateway.tokenizer import PLAIN_FIELDS, PLAIN_ROLES, Counting

CHAR_TOKENS_MAX = 4
"""A character is at most four bytes of UTF-8, and no tokenizer in use makes more tokens than bytes."""
MESSAGE_TOKENS_MAX = 64
TEMPLATE_TOKENS_MAX = 512
"""What templates put around a message and around a conversation; the longest met (a date, a default system prompt, a
preamble) has some 150 tokens in all."""
TEMPLATE_TOKENS_USUAL = 8
USUAL_CHARS_PER_TOKEN = 4
"""Of prose and code, for the work of prompts that are known to be small; nothing is decided by it."""


def tiny_bound(prompt: Conversation | Texts, enough_tokens: int) -> PromptTokens | None:
    """A bound for prompts so short that no look at their text is needed; None for all others."""
    if isinstance(prompt, Texts):
        chars, extra_tokens = max(map(len, prompt.texts), default=0), TEMPLATE_TOKENS_MAX
    elif prompt.tools or prompt.template_arguments:
        return None
    else:
        chars, extra_tokens = 0, TEMPLATE_TOKENS_MAX + MESSAGE_TOKENS_MAX * len(prompt.messages)
        for message in prompt.messages:
            content = message.get("content")
            if type(content) is not str or message.keys() != PLAIN_FIELDS or message.get("role") not in PLAIN_ROLES:
                return None
            chars += len(content)
    bound = CHAR_TOKENS_MAX * chars + extra_tokens
    if bound > enough_tokens:
        return None
    return PromptTokens(
        tokens=bound, kind=CountKind.AT_MOST, expected_tokens=chars // USUAL_CHARS_PER_TOKEN + TEMPLATE_TOKENS_USUAL
    )


def proven_bound(
    counting: Counting, prompt: Conversation | Texts, readings: Sequence[Reading] | None, enough_tokens: int
) -> int | None:
    """A proven upper bound, where it is within `enough_tokens`."""
    if isinstance(prompt, Conversation):
        texts = readings[0].texts if readings else ()
        bound = counting.at_most_rendered(prompt, texts, enough_tokens)
    elif max(map(len, prompt.texts), default=0) > enough_tokens or not prompt.is_faithful:
        return None
    else:
        bounds = [counting.at_most(text, add_special_tokens=prompt.add_special_tokens) for text in prompt.texts]
        bound = None if None in bounds else max([each for each in bounds if each is not None], default=0)
    return bound if bound is not None and bound <= enough_tokens else None
