"""What of a cut stream its client has, as the gateway tells it to the replica that goes on.

Source of the idea that a stream's tokens are enough to go on with it: prompt and generated ids are all that a
decoder-only model's next token depends on, but for the sampler's own state (cluster/engine/resume/ways.py). What must
not live here: HTTP, engines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELD = "longreach_resume"
"""Of a request's body, beside the client's own; a replica reads it from its gateways only."""
CHOICES_MAX = 128
"""OpenAI's own bound on n."""
_GROUP = re.compile(r"(\d{1,3}):(\d{1,9}(?:,\d{1,9})*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tokens of one choice that came together, as one output of an engine."""

    choice: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What the client has."""

    groups: tuple[Group, ...]
    """In the order they came."""
    events: int
    """Events since the last group's tokens were told: those made of them, or of none where there is no group."""

    def tokens(self, choice: int) -> int:
        """How many of one choice."""
        return sum(len(group.ids) for group in self.groups if group.choice == choice)

    @property
    def total_tokens(self) -> int:
        """Of all choices."""
        return sum(len(group.ids) for group in self.groups)


def encode_delivered(lines: bytes, events: int) -> bytes:
    """The member of a JSON object that tells a replica, with its name.

    Args:
        lines: groups as replicas tell them, `choice:id,id,…`, one a line.
        events: as `Delivered.events`.
    """
    text = lines.decode("ascii").strip().replace("\n", " ")
    return f'"{FIELD}":{{"groups":"{text}","events":{events}}}'.encode()


def decode_delivered(told: Any) -> Delivered:
    """Read it again.

    Raises:
        ValueError: it is not what a gateway writes.
    """
    text, events = (told.get("groups"), told.get("events")) if isinstance(told, Mapping) else (None, None)
    if not isinstance(text, str) or type(events) is not int or events < 0:
        raise ValueError(f"{FIELD} needs groups, a text, and events, a count")
    return Delivered(groups=tuple(_groups(text.split())), events=events)


def _groups(parts: Sequence[str]) -> list[Group]:
    found = []
    for part in parts:
        match = _GROUP.fullmatch(part)
        if match is None or int(match[1]) >= CHOICES_MAX:
            raise ValueError(f"{FIELD} has a group that is none: {part[:40]}")
        found.append(Group(choice=int(match[1]), ids=tuple(map(int, match[2].split(",")))))
    return found
