"""What a replica adds to an answer for the gateway: its outcome, the token ids it was made of, how it was resumed.

Answers that are no event streams get a header, event streams comment lines that every client ignores (HTML standard,
server-sent events). What must not live here: counting (tally.py), whether an answer may go out (guard.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cluster.core import wire
from cluster.core.outcome import encode_outcome
from cluster.engine.asgi import CLIENT_ERROR_MIN, Message, Scope, Send
from cluster.engine.call import Call
from cluster.engine.resume.skip import Skip

EVENT_STREAM = b"text/event-stream"
EVENT_END = b"\n\n"
COMMENT = b":"
_EVENT = re.compile(rb".+?\n\n|.+", re.DOTALL)
"""Events, and the begin of one."""
_TOKENLESS = re.compile(
    rb':|data: \{[^}]*"delta":\{"role"'
    rb"|event: (?:message_start|content_block_start|content_block_stop|ping|response\.created|response\.in_progress)\n"
)
"""Events with no token's text, which vLLM writes when it has the first tokens already, and comments."""
_CHOICE = re.compile(rb'"choices":\[\{"index":(\d{1,3})')
"""How vLLM writes the choice of an event."""


class SideChannel:
    """The `send` below the guard.

    Args:
        send: towards the gateway.
        call: the request: its tally, and what its client has where it is resumed.
        state: the request's ASGI state, where vLLM leaves its own count.
        wants_outcome: whether the gateway asked for it; token ids are the tally's matter.
    """

    def __init__(self, send: Send, *, call: Call, state: Scope, wants_outcome: bool) -> None:
        self._send = send
        self._call = call
        self._tally = call.tally
        self._skip = None if call.delivered is None else Skip(call.delivered)
        self._state = state
        self._wants_outcome = wants_outcome
        self._is_stream = False
        self._is_between_events = True
        self._is_told_full = False

    async def __call__(self, message: Message) -> None:
        """Pass a message on, with what belongs to it."""
        if message["type"] == "http.response.start":
            message = self._head(message)
        elif message["type"] == "http.response.body" and self._is_stream:
            message = self._body(message)
            if not message["body"] and message.get("more_body", False):
                return
        await self._send(message)

    def _head(self, message: Message) -> Message:
        if message["status"] >= CLIENT_ERROR_MIN:
            return message
        headers = list(message.get("headers", ()))
        kind = next((value for key, value in headers if key.lower() == b"content-type"), b"")
        self._is_stream = kind.lower().startswith(EVENT_STREAM)
        if self._is_stream:
            headers = [(key, value) for key, value in headers if key.lower() != b"content-length"]
        elif self._wants_outcome:
            headers.append((wire.HEADER_OUTCOME.encode(), self._outcome()))
        if self._call.way:
            headers.append((wire.HEADER_RESUMED.encode(), self._call.way.encode()))
        return {**message, "headers": headers}

    def _body(self, message: Message) -> Message:
        body = message.get("body", b"")
        if body and self._is_between_events:
            # One write with the events made of them: a reader that has the text has had the ids before it.
            body = self._with_ids(body)
        if body:
            self._is_between_events = body.endswith(EVENT_END)
        if not message.get("more_body", False):
            tail = _lines(self._tally.take_ids()) if self._skip is None else b""
            if self._wants_outcome:
                tail += wire.COMMENT_OUTCOME + self._outcome() + EVENT_END
            body += (EVENT_END if tail and not self._is_between_events else b"") + tail
        return {**message, "body": body}

    def _with_ids(self, events: bytes) -> bytes:
        kept = self._told_full()
        for event in _EVENT.findall(events):
            made = [] if _TOKENLESS.match(event) else self._made_of(event)
            if event.startswith(COMMENT):
                kept += event
            elif self._skip is None or not self._skip.keeps_back((choice, len(ids)) for choice, ids in made):
                kept += _lines(made) + event
        return kept

    def _told_full(self) -> bytes:
        """Before whatever ends a choice for want of context: the gateway keeps it back."""
        if not self._call.is_full or self._is_told_full:
            return b""
        self._is_told_full = True
        return wire.COMMENT_FULL + EVENT_END

    def _made_of(self, event: bytes) -> list[tuple[int, list[int]]]:
        """The tokens of an event: of several choices' those of its own, since one output may have tokens of all."""
        if not self._tally.has_choices:
            return self._tally.take_ids()
        choice = _CHOICE.search(event)
        return [] if choice is None else self._tally.take_ids(int(choice[1]))

    def _outcome(self) -> bytes:
        self._tally.adopt(self._state)
        return encode_outcome(self._tally.outcome()).encode()


def _lines(made: Iterable[tuple[int, list[int]]]) -> bytes:
    return b"".join(
        b"%s%d:%s\n\n" % (wire.COMMENT_IDS, choice, ",".join(map(str, ids)).encode()) for choice, ids in made
    )
