"""A load that every judge can express, and where it goes.

What must not live here: how a tool is told it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from loadtest.arrivals import Spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Chats of one size; in an open loop at a rate, in a closed loop so many at once."""

    prompt_tokens: int
    """Template included."""
    output_tokens: int
    requests: int
    rate_per_s: float | None
    """None: closed loop."""
    spacing: Spacing = Spacing.CONSTANT
    """Of an open loop."""
    concurrency: int = 0
    """Of a closed loop; 0: open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Where a load goes."""

    url: str
    """Without /v1."""
    model: str
    context_tokens: int
    """The largest pool's."""
    tokenizer: Path
    """Folder of the model's tokenizer: judges write prompts of their own with it."""
    template_tokens: int
    """What the chat template adds to a user's message."""
    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a judge is told to do once."""

    folder: Path
    """For its files; it exists, and is its own."""
    load: Load
    goal: Goal
    seed: int
    """Of times; the same in a run of the same seed."""
    fresh: int
    """Of words: another one each time, 31 bits, so that no prompt was cached before."""

    @property
    def message_tokens(self) -> int:
        """Of a user's message, so that the prompt has its tokens with the template; at least 1."""
        return max(self.load.prompt_tokens - self.goal.template_tokens, 1)
