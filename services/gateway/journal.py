"""What a stream's client has: the tokens its replica told, and the events made of them, noted as they pass.

Per event this finds an event's end and a line's begin, nothing else: no JSON is read. What must not live here: sending
anything anywhere, what happens after a cut (resuming.py).
"""

from __future__ import annotations

import re

from cluster.core import wire
from cluster.core.request import Route
from cluster.core.resume import encode_delivered

EVENT_END = b"\n\n"
IDS_BYTES_PER_TOKEN = 7
"""A token's id in decimal and what parts it from the next: of vocabularies up to a million."""
HELD_MAX_BYTES = 4 * 2**20
"""Of one event: a stream with a longer one is passed on, and cannot be gone on with."""
COMMENT = b":"
"""No event (HTML standard, server-sent events): the outcome's line, and an engine's signs of life."""
_ERROR = {
    Route.CHAT: b'data: {"error"',
    Route.COMPLETIONS: b'data: {"error"',
    Route.RESPONSES: b"event: error",
    Route.MESSAGES: b"event: error",
}
_ENGINES_FAULT = re.compile(rb'"code":\s*5\d\d|"type":\s*"(?:internal_error|api_error)"')
"""An error that another replica may not have; what is wrong with the request is wrong there too. vLLM's messages call
every error under way an `internal_error`."""
_ENDS = {
    Route.CHAT: (b"data: [DONE]",),
    Route.COMPLETIONS: (b"data: [DONE]",),
    Route.RESPONSES: (b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
    Route.MESSAGES: (b"event: message_stop",),
}
_CREATED = re.compile(rb'"created(?:_at)?":\s*[0-9.]+')
"""Inside JSON text a quote is escaped, so this cannot be something that a model wrote."""


class Journal:
    """Follows one stream of a replica that tells the ids of its tokens."""

    __slots__ = (
        "_created", "_ends", "_error", "_events", "_groups", "_is_resumed", "_most_bytes",
        "_pending", "_rest", "has_failed", "is_complete", "is_full", "is_open",
    )  # fmt: skip

    def __init__(self, route: Route, most_tokens: int) -> None:
        """Begin a stream.

        Args:
            route: what was asked.
            most_tokens: of an output that is kept; beyond it nothing more is noted.
        """
        self._ends, self._error = _ENDS[route], _ERROR[route]
        self._most_bytes = most_tokens * IDS_BYTES_PER_TOKEN
        self._groups = bytearray()
        self._pending: list[bytes] = []
        self._events = 0
        self._rest = b""
        self._created = b""
        self._is_resumed = False
        self.is_open = True
        """Whether what is noted is enough to go on with."""
        self.is_complete = False
        """Whether the stream's own end has passed."""
        self.has_failed = False
        """Whether the engine told an error of its own; that event and all after it are not passed."""
        self.is_full = False
        """Whether the replica's context is; what follows is kept for the case that no larger one takes the stream."""

    def take(self, payload: bytes) -> bytes:
        """The whole events in what has come, without the tokens' lines; the begin of the next one is kept."""
        if self._rest:
            payload = self._rest + payload
            self._rest = b""
        cut = payload.rfind(EVENT_END) + len(EVENT_END)
        if cut < len(EVENT_END):
            cut = 0
        if len(payload) - cut > HELD_MAX_BYTES:
            self.is_open = False
        if not self.is_open:
            return payload
        self._rest = payload[cut:]
        return self._passed(payload[:cut])

    def rest(self) -> bytes:
        """What is left of a stream that has ended."""
        rest, self._rest = self._rest, b""
        return rest

    def resumed(self) -> None:
        """What comes from now on is another replica's."""
        self._rest = b""
        self._pending.clear()
        self.has_failed = self.is_full = False
        self._is_resumed = True

    def stays(self) -> None:
        """This replica gives the stream to its end; one that is full is there, and nobody can go on after it."""
        self.is_open &= not self.is_full
        self.is_full = False

    @property
    def noted_bytes(self) -> int:
        """Grows with every token that the client gets."""
        return len(self._groups)

    def delivered(self) -> bytes:
        """For the body of a request to whoever goes on."""
        return encode_delivered(bytes(self._groups), self._events)

    def _passed(self, payload: bytes) -> bytes:
        kept: list[bytes] = []
        begin = 0
        while begin < len(payload):
            end = payload.index(EVENT_END, begin) + len(EVENT_END)
            event = payload[begin:end]
            begin = end
            if event.startswith(wire.COMMENT_IDS):
                self._pending.append(event[len(wire.COMMENT_IDS) : -len(EVENT_END)])
            elif event.startswith(wire.COMMENT_FULL):
                self.is_full = True
                self._rest = payload[begin:] + self._rest
                break
            elif event.startswith(COMMENT):
                kept.append(event)
            elif event.startswith(self._error):
                if _ENGINES_FAULT.search(event):
                    self.has_failed = True
                    break
                # Nothing goes on after it.
                self.is_complete = True
                kept.append(event)
            else:
                kept.append(self._noted(event))
        return b"".join(kept)

    def _noted(self, event: bytes) -> bytes:
        if self._pending:
            for line in self._pending:
                self._groups += line
                self._groups += b"\n"
            self._pending.clear()
            self._events = 1
            if len(self._groups) > self._most_bytes:
                self.is_open = False
                self._groups.clear()
        else:
            self._events += 1
        if event.startswith(self._ends):
            self.is_complete = True
        if self._is_resumed:
            return _CREATED.sub(self._created, event, count=1) if self._created else event
        if not self._created:
            found = _CREATED.search(event)
            self._created = found[0] if found else b""
        return event
