"""Server-sent events on their way through: whole events only, the side channel taken out, the end recognized.

Nothing is parsed per token: a read that ends with an event's end passes as it is. The source of the line format is
the HTML standard, section 9.2. What must not live here: connections, framing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cluster.core import wire
from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.core.request import Route

HELD_MAX_BYTES = 4 * 1024 * 1024
"""Of a stream whose events only pass: a longer one passes in parts."""
TAIL_BYTES = 4096
"""How much of a foreign engine's whole answer is kept to read its usage from: it comes last."""
_ENDS = (b"\n\n", b"\r\n\r\n")
_MARK = b": longreach-"
_USAGE = b'"usage"'
_DONE = b"[DONE]"
_DONE_ROUTES = frozenset({Route.CHAT, Route.COMPLETIONS})
_EVENT_END = re.compile(rb"\n\n|\r\n\r\n")
_PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens)"\s*:\s*(\d{1,12})')
_OUTPUT = re.compile(rb'"(?:completion_tokens|output_tokens)"\s*:\s*(\d{1,12})')
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d{1,12})')


class EventFilter:
    """One stream's bytes in, the client's bytes out."""

    __slots__ = ("_held_max_bytes", "_hides_usage", "_is_foreign", "_needs_done", "_rest", "is_done", "outcome")

    def __init__(
        self, route: Route, *, is_foreign: bool, hides_usage: bool, held_max_bytes: int = HELD_MAX_BYTES
    ) -> None:
        """Begin a stream.

        Args:
            route: what was asked.
            is_foreign: the engine is not a replica of ours: its usage is read from its own events.
            hides_usage: the usage event was asked for by the gateway, not by the client.
            held_max_bytes: the longest event that is kept back until it is whole; a longer one passes in parts.
        """
        self._rest = b""
        self._held_max_bytes = held_max_bytes
        self._is_foreign = is_foreign
        self._hides_usage = hides_usage
        self._needs_done = route in _DONE_ROUTES
        self.is_done = not self._needs_done
        """Whether the stream's own terminator has passed."""
        self.outcome: ReplicaOutcome | None = None

    def take(self, payload: bytes) -> bytes:
        """The whole events in what has come; the beginning of the next one is kept."""
        if self._rest:
            payload = self._rest + payload
            self._rest = b""
        if not payload.endswith(_ENDS):
            cut = max(payload.rfind(b"\n\n") + 2, payload.rfind(b"\r\n\r\n") + 4)
            if cut < 4:  # noqa: PLR2004 - neither was found: 1 or 3
                cut = 0
            if len(payload) - cut <= self._held_max_bytes:
                self._rest = payload[cut:]
                payload = payload[:cut]
        if _MARK in payload:
            payload = self._without_side_channel(payload)
        elif self._is_foreign and _USAGE in payload:
            payload = self._with_usage_read(payload)
        if self._needs_done and _DONE in payload:
            self.is_done = True
        return payload

    def last(self, payload: bytes) -> bytes:
        """The stream's end: everything that is left."""
        passed = self.take(payload)
        rest, self._rest = self._rest, b""
        return passed + rest

    def _without_side_channel(self, payload: bytes) -> bytes:
        kept: list[bytes] = []
        for event in _events(payload):
            if event.startswith(wire.COMMENT_OUTCOME):
                self.outcome = decode_outcome(event[len(wire.COMMENT_OUTCOME) :]) or self.outcome
            elif not event.startswith(_MARK):
                kept.append(event)
        return b"".join(kept)

    def _with_usage_read(self, payload: bytes) -> bytes:
        kept: list[bytes] = []
        for event in _events(payload):
            if _USAGE not in event:
                kept.append(event)
                continue
            self.outcome = usage_in(event) or self.outcome
            if not (self._hides_usage and _is_only_usage(event)):
                kept.append(event)
        return b"".join(kept)


def usage_in(body: bytes) -> ReplicaOutcome | None:
    """The token counts in the last `usage` object of a foreign engine's JSON; None where there is none.

    Inside JSON text a quote is escaped, so the pattern cannot be something that a model wrote.
    """
    at = body.rfind(_USAGE)
    if at < 0:
        return None
    text = body[at:]
    prompt, output, cached = _PROMPT.search(text), _OUTPUT.search(text), _CACHED.search(text)
    if prompt is None:
        return None
    return ReplicaOutcome(
        prompt_tokens=int(prompt[1]),
        output_tokens=int(output[1]) if output else 0,
        cached_tokens=int(cached[1]) if cached else 0,
    )


def _events(payload: bytes) -> list[bytes]:
    """The events in `payload`, each with its end; what follows the last end comes last."""
    found, begin = [], 0
    for end in _EVENT_END.finditer(payload):
        found.append(payload[begin : end.end()])
        begin = end.end()
    if begin < len(payload):
        found.append(payload[begin:])
    return found


def _is_only_usage(event: bytes) -> bool:
    """Whether this is the event with no choices that `stream_options.include_usage` adds."""
    _, found, text = event.partition(b"data:")
    if not found:
        return False
    try:
        data: Any = json.loads(text)
    except ValueError:
        return False
    return isinstance(data, dict) and data.get("choices") == [] and bool(data.get("usage"))
