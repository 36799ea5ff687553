"""What is noted of a request while it passes: the one thing here that a request's path touches.

What must not live here: what follows from it (service.py).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

PROMPTS_MAX = 256
"""Prompts noted before they are looked at, a few times a second; of more, the oldest are forgotten, and their blocks
are then looked at like generated ones."""


class SeenPrompt(NamedTuple):
    """A prompt that was made of text."""

    token_ids: list[int]
    text: str
    """From which the tokens were made."""


class SeenPrompts:
    """Prompts that wait to be looked at, oldest first; bounded, and none once closed."""

    def __init__(self) -> None:
        self._waiting: deque[SeenPrompt] = deque(maxlen=PROMPTS_MAX)
        self._closed = False

    def note(self, token_ids: list[int], text: str) -> None:
        """Remember a prompt: all that happens while its request waits."""
        if not self._closed:
            self._waiting.append(SeenPrompt(token_ids, text))

    def take(self) -> SeenPrompt | None:
        """The oldest; None when none waits."""
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        """Remember nothing any more: nobody will look."""
        self._closed = True
        self._waiting.clear()
