"""What a load test sends: sessions by the time at which they begin, each one or more turns.

A scenario makes sessions, lazily and from a seed alone, so that several client processes make the same ones and each
takes its part. What must not live here: making them (scenarios/), sending them (client/).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Which operation a session uses."""

    CHAT = "chat"
    COMPLETION = "completion"
    """The prompt's text as it is, no template: for exact numbers of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a session."""

    text: str
    """The user's message, or a completion's whole prompt."""
    output_tokens: int
    """The most of the answer; exactly so many where the session is exact."""
    prompt_tokens: int = 0
    """About how many its prompt has, earlier turns and template included; 0: not known. It tells the length of requests
    that the server refused, and so did not count."""
    think_s: float = 0.0
    """From the end of the answer before to this turn's due time; of the first turn it does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Turns that follow each other; each sends the messages and answers before it along."""

    at_s: float
    """When its first turn is due, since the run's begin; in a closed loop it begins when another has ended."""
    turns: tuple[Turn, ...]
    kind: Kind = Kind.CHAT
    system: str = ""
    """The system message, before all turns."""
    label: str = ""
    """What the report tells apart, for example `short` and `long`."""
    tenant: str = ""
    """Whose key it is sent with; empty: the run's own."""
    priority: str = ""
    """`x-longreach-priority`; empty: none is sent."""
    is_exact: bool = True
    """Answers have exactly `output_tokens` (`ignore_eos`)."""
    keeps: bool = False
    """It names itself to the gateway (`x-longreach-session`)."""
