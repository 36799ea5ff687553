"""One answer as its client saw it.

What must not live here: asking (asking.py), whether it is right (judge.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class End(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    REFUSED = "refused"
    """429 or 503 with Retry-After, before anything of it."""
    FAILED = "failed"
    """Any other status."""
    BROKEN = "broken"
    """The connection ended within it, or an error came in its place."""
    UNCONNECTED = "unconnected"
    """There was no connection."""
    LATE = "late"
    """The client gave up."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came of one request. Times are seconds on one clock."""

    kind: str
    sent_s: float
    ended_s: float = 0.0
    first_s: float | None = None
    """When its first token was read."""
    end: End = End.BROKEN
    status: int = 0
    detail: str = ""
    """What a failure said of itself."""
    retry_after_s: float | None = None
    pool: str = ""
    replica: str = ""
    ids: list[int] = field(default_factory=list)
    """Token ids, as told."""
    text: str = ""
    """Content and tool arguments, as they came."""
    finish: str = ""
    output_tokens: int | None = None
    """As the usage told."""
    prompt_tokens: int | None = None
    usages: int = 0
    """How often it told."""
    logprobs: list[float] = field(default_factory=list)
    """Of the tokens."""
    cached_tokens: int = 0
    """Of the prompt, as the usage told."""
    longest_gap_s: float = 0.0
    """Between two pieces, once the first has come."""
    longest_gap_at_s: float = 0.0
    """When that gap ended."""
    attempts: int = 1
    """By the client."""

    def came(self, now_s: float, ids: list[int], text: str) -> None:
        """A piece was read."""
        if self.first_s is None:
            self.first_s = now_s
        elif now_s - self._last_s > self.longest_gap_s:
            self.longest_gap_s, self.longest_gap_at_s = now_s - self._last_s, now_s
        self._last_s = now_s
        self.ids += ids
        self.text += text

    _last_s: float = 0.0
