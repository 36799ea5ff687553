"""What of a prompt the model will read, as plain texts, without rendering a template.

Decoded texts, not JSON: how the client escaped them must not matter. What must not live here: tokenizers, learning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.core.budget.features import PromptFeatures, features_of
from cluster.core.prompt import Conversation, Texts

_MEDIA_FIELDS = frozenset({"image_url", "source", "input_audio", "audio_url", "video_url", "file"})
"""An image is not read as its base64 text."""

DENSITY_RATIO = 8
"""A text with this many times fewer characters has fewer tokens: they differ from 0.2 to 1.6 a character."""
MAX_LONGEST = 16
"""Texts of one request that are estimated, 0.3 ms each; a batch of more is counted in a worker thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The texts of one prompt, in the order in which they stand."""

    texts: list[str]
    messages: int
    """Around how many messages a template wraps itself; 0 for plain texts."""
    is_plain: bool
    """Whether the engine reads this and little else."""
    has_media: bool = False
    """Pictures or sounds: their tokens only the engine knows, so the prompt's length teaches nothing."""

    def features(self) -> PromptFeatures:
        """See `features_of`."""
        return features_of(self.texts, messages=self.messages, is_plain=self.is_plain)


def read(prompt: Conversation | Texts) -> tuple[Reading, ...] | None:
    """The texts of `prompt`; where it is several prompts, of each that may be the longest.

    None where that may be too many of them.
    """
    if isinstance(prompt, Conversation):
        return (_read_conversation(prompt),)
    least_chars = max(map(len, prompt.texts), default=0) / DENSITY_RATIO
    longest = [text for text in prompt.texts if len(text) >= least_chars]
    if len(longest) > MAX_LONGEST:
        return None
    return tuple(Reading(texts=[text], messages=0, is_plain=prompt.is_faithful) for text in longest)


def _read_conversation(prompt: Conversation) -> Reading:
    texts: list[str] = []
    has_media = False
    if prompt.tools:
        texts.append(json.dumps(prompt.tools, ensure_ascii=False, default=str))
    for message in prompt.messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif content is not None:
            has_media |= _collect(content, texts)
        if "tool_calls" in message:
            _collect(message["tool_calls"], texts)
    return Reading(texts=texts, messages=len(prompt.messages), is_plain=prompt.is_faithful, has_media=has_media)


def _collect(value: Any, texts: list[str]) -> bool:
    """Append every string below `value`; True where media were passed over."""
    has_media = False
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, Mapping):
            has_media |= not _MEDIA_FIELDS.isdisjoint(item)
            parts = [part for key, part in item.items() if key not in _MEDIA_FIELDS and key != "type"]
            pending.extend(reversed(parts))
    return has_media
