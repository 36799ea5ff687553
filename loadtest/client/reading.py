"""A stream of server-sent events while it arrives: when each event with text came, and at its end what it says.

Events are not parsed as they come: one search for a field with text in it tells which have some, and only the last ones
are looked into, for usage or an error. What must not live here: HTTP, clocks.
"""

from __future__ import annotations

import re
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from typing import Any

import orjson

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)": ?"[^"]')
"""A field whose text is not empty. Inside a text it cannot occur: quotes are escaped there."""
KEPT_READS = 16
"""The end of a stream, in reads: usage, `[DONE]` and an error are in its last events."""
LINE_BYTES_MAX = 2**20
"""An engine that never ends a line must not fill the client's memory."""
DATA = b"data:"
DONE = b"[DONE]"


class StreamReader:
    """Reads one stream."""

    __slots__ = ("_carry", "_keeps", "_kept", "held_bytes", "is_too_long", "times")

    def __init__(self, times: array[float], *, keeps_text: bool) -> None:
        """Prepare.

        Args:
            times: gets the time of each event with text.
            keeps_text: whether `text` will be asked for; only then the whole stream is held.
        """
        self.times = times
        self._keeps = keeps_text
        self._kept: MutableSequence[bytes] = [] if keeps_text else deque(maxlen=KEPT_READS)
        self._carry = b""
        self.held_bytes = 0
        """Of a stream that is held, so far."""
        self.is_too_long = False
        """Whether a line has no end within its limit: nothing more is read then."""

    def take(self, payload: bytes, now_s: float) -> None:
        """What one read brought, read at `now_s`."""
        if self._carry:
            payload = self._carry + payload
        if payload.endswith(b"\n"):
            self._carry = b""
        else:
            end = payload.rfind(b"\n") + 1
            self._carry = payload[end:]
            payload = payload[:end]
            if len(self._carry) > LINE_BYTES_MAX:
                self.is_too_long = True
                self._carry = b""
        self.times.extend([now_s] * len(TEXT.findall(payload)))
        if self._keeps:
            self.held_bytes += len(payload)
        self._kept.append(payload)

    @property
    def is_done(self) -> bool:
        """Whether the stream said that it is complete."""
        return any(line == DONE for line in self._last_data())

    def usage(self) -> Mapping[str, Any]:
        """The tokens, as its end tells them; empty where it does not."""
        return next((event["usage"] for event in self._last_events(b'"usage"') if event.get("usage")), {})

    def error_code(self) -> str | None:
        """The code of an error that ended it; None: it had none."""
        for event in self._last_events(b'"error"'):
            if event.get("error"):
                return code_in(event)
        return None

    def text(self) -> str:
        """All its text."""
        return "".join(said_in(choice) for choice in self._choices())

    def token_ids(self) -> list[int]:
        """The ids of all its tokens; empty where the server tells none."""
        return [one for choice in self._choices() for one in ids_in(choice)]

    def _choices(self) -> Iterator[Mapping[str, Any]]:
        for line in _data_lines(self._kept):
            yield from _loaded(line).get("choices") or ()

    def _last_data(self) -> Iterator[bytes]:
        tail = [*self._kept][-KEPT_READS:]
        return reversed([*_data_lines(tail)])

    def _last_events(self, word: bytes) -> Iterator[Mapping[str, Any]]:
        return (_loaded(line) for line in self._last_data() if word in line)


def _data_lines(payloads: MutableSequence[bytes] | list[bytes]) -> Iterator[bytes]:
    for line in b"".join(payloads).split(b"\n"):
        if line.startswith(DATA):
            yield line[len(DATA) :].strip()


def _loaded(line: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:  # `[DONE]`, or what no engine should send
        return {}
    return found if isinstance(found, dict) else {}


def loaded(body: bytes) -> Mapping[str, Any]:
    """A whole answer's object; empty where it is none."""
    return _loaded(body)


def code_in(answer: Mapping[str, Any]) -> str:
    """The server's own word for an error: its code, else its type; empty where it has neither."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return ""
    return str(error.get("code") or error.get("type") or "")


def said_in(choice: Mapping[str, Any]) -> str:
    """The text of one choice: of a chat or a completion, whole or a part of a stream."""
    told = choice.get("message") or choice.get("delta") or choice
    return str(told.get("content") or told.get("text") or "")


def ids_in(choice: Mapping[str, Any]) -> Sequence[int]:
    """The ids of its tokens; empty where the server does not tell them."""
    found = choice.get("token_ids")
    return found if isinstance(found, list) else ()


def tokens_in(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Prompt, cached and output tokens; 0 for what is not told."""
    details = usage.get("prompt_tokens_details") or {}
    told = (usage.get("prompt_tokens"), details.get("cached_tokens"), usage.get("completion_tokens"))
    prompt, cached, output = (value if isinstance(value, int) else 0 for value in told)
    return prompt, cached, output
