"""One line for every request, formatted here and written in batches: what `logging` would take 25 µs for.

The lines look like those of logs.py, text or JSON. Whole lines leave at the end of a turn of the event loop, in one
`write`. What must not live here: prompt text, ever; other log lines (logs.py).
"""

from __future__ import annotations

import json
import logging
import os
import select
import stat
import time
from collections.abc import Callable
from json.encoder import encode_basestring

from services.gateway.logs import ACCESS_LOGGER

BATCH_BYTES = 64 * 2**10
"""Written at once even within a turn of the event loop."""
BUFFER_BYTES_MAX = 2**20
"""Most that waits for a reader that does not read; beyond it lines are left out and counted."""
RETRY_S = 0.05
"""Between two tries at a full pipe."""
FIELD_CHARS_MAX = 256
"""A client chooses the model's name it asks for, and the request's id: longer ones are cut."""
WORDS_MAX = 4_096
"""Cached quoted words: routes, pools, replicas, tenants. Clients choose some, so a full cache is emptied."""

_FIELDS = (
    "request_id", "trace_id", "route", "api", "status", "ending", "tenant", "key", "model", "pool", "replica",
    "attempts", "prompt_tokens", "predicted_tokens", "cached_tokens", "output_tokens", "first_byte_ms", "ms", "bytes",
)  # fmt: skip
"""The fields of a line, in order."""
_TEXT = "%s.%03dZ INFO request " + " ".join(f"{name}=%s" for name in _FIELDS) + "\n"
_JSON = (
    '{"time": "%s.%03dZ", "level": "INFO", "event": "request", '
    + ", ".join(f'"{name}": %s' for name in _FIELDS)
    + "}\n"
)


class AccessLog:
    """Formats and writes access lines; one a worker, used by its event loop alone."""

    def __init__(
        self,
        *,
        is_json: bool,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.time,
        descriptor: int = 2,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            is_json: JSON lines instead of text (telemetry.log_format).
            call_soon: the event loop's.
            call_later: the event loop's.
            clock: seconds since the epoch.
            descriptor: where lines go; it stays open at the end.
        """
        self.dropped_lines = 0
        """Lines left out because nobody read the ones before."""
        self._logger = logging.getLogger(ACCESS_LOGGER)
        self._call_soon = call_soon
        self._call_later = call_later
        self._clock = clock
        self._descriptor = descriptor
        # Workers share standard error; the kernel keeps writes to a pipe apart up to this size only.
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        self._write_bytes_max = select.PIPE_BUF if is_pipe else BUFFER_BYTES_MAX
        self._template = _JSON if is_json else _TEXT
        self._quote = _json_string if is_json else _text_word
        self._absent = '"-"' if is_json else "-"
        self._words: dict[str, str] = {}
        self._lines: list[str] = []
        self._lines_chars = 0
        self._waiting = b""
        self._second = -1
        self._second_text = ""
        self._is_scheduled = False

    @property
    def is_on(self) -> bool:
        """Whether lines are written at the log level in force now."""
        return self._logger.isEnabledFor(logging.INFO)

    def write(
        self,
        request_id: str,
        trace_id: str,
        route: str,
        api: str,
        *,
        status: int,
        ending: str,
        tenant: str | None,
        key: str | None,
        model: str,
        pool: str | None,
        replica: str | None,
        attempts: int,
        prompt_tokens: int | None,
        predicted_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
        first_byte_s: float | None,
        seconds: float,
        sent_bytes: int,
    ) -> None:
        """Note that a request has ended. Never raises for a descriptor that refuses.

        Args:
            request_id: as the client knows it.
            trace_id: empty where nobody traces.
            route: a Route.
            api: an Api.
            status: HTTP's, whatever the API.
            ending: an Ending.
            tenant: None, like all that follow, where it is not known.
            key: the API key's id, never the key.
            model: as the client asked for it.
            pool: where it was served.
            replica: by whom.
            attempts: endpoints tried.
            prompt_tokens: the engine's count, or else the gateway's.
            predicted_tokens: prompt tokens that routing expected to be cached.
            cached_tokens: the engine's count of them.
            output_tokens: the engine's count.
            first_byte_s: from the request's last byte in to the answer's first byte out.
            seconds: from the request's last byte in to the answer's last byte out.
            sent_bytes: of the answer's body.
        """
        if not self._logger.isEnabledFor(logging.INFO):
            return
        now_s = self._clock()
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        words, absent = self._words, self._absent
        line = self._template % (
            self._second_text,
            int((now_s - second) * 1000),
            self._quote(request_id),
            self._quote(trace_id) if trace_id else absent,
            words.get(route) or self._word(route),
            words.get(api) or self._word(api),
            status,
            words.get(ending) or self._word(ending),
            absent if tenant is None else words.get(tenant) or self._word(tenant),
            absent if key is None else words.get(key) or self._word(key),
            words.get(model) or self._word(model),
            absent if pool is None else words.get(pool) or self._word(pool),
            absent if replica is None else words.get(replica) or self._word(replica),
            attempts,
            absent if prompt_tokens is None else prompt_tokens,
            absent if predicted_tokens is None else predicted_tokens,
            absent if cached_tokens is None else cached_tokens,
            absent if output_tokens is None else output_tokens,
            absent if first_byte_s is None else f"{first_byte_s * 1000:.1f}",
            f"{seconds * 1000:.1f}",
            sent_bytes,
        )
        self._lines.append(line)
        self._lines_chars += len(line)
        if self._lines_chars >= BATCH_BYTES:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._turn_ended)

    def flush(self) -> None:
        """Write what is there, as far as it is taken."""
        if self._lines:
            # A lone surrogate, which JSON bodies may hold, leaves as the escape that JSON reads back.
            batch = "".join(self._lines).encode("utf-8", "backslashreplace")
            if len(self._waiting) + len(batch) > BUFFER_BYTES_MAX:
                self.dropped_lines += len(self._lines)
            else:
                self._waiting += batch
            self._lines.clear()
            self._lines_chars = 0
        if self._waiting:
            self._waiting = self._waiting[self._written_bytes() :]

    def close(self) -> None:
        """Write what is left; the descriptor stays open."""
        self.flush()

    def _turn_ended(self) -> None:
        self._is_scheduled = False
        self.flush()

    def _written_bytes(self) -> int:
        """Write what waits; how much of it is done with."""
        waiting, done = self._waiting, 0
        try:
            while done < len(waiting):
                # Whole lines, as many as may go at once; a longer line goes in parts.
                most = done + self._write_bytes_max
                end = len(waiting) if most >= len(waiting) else waiting.rfind(b"\n", done, most) + 1 or most
                done += os.write(self._descriptor, waiting[done:end])
        except BlockingIOError:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._call_later(RETRY_S, self._turn_ended)
        except OSError:
            # Nobody reads any more. A log that cannot be written is no reason to stop serving.
            self.dropped_lines += waiting.count(b"\n", done)
            return len(waiting)
        return done

    def _word(self, text: str) -> str:
        if len(self._words) >= WORDS_MAX:
            self._words.clear()
        quoted = self._quote(text)
        if len(text) <= FIELD_CHARS_MAX:
            self._words[text] = quoted
        return quoted


def _text_word(text: str) -> str:
    if len(text) > FIELD_CHARS_MAX:
        text = text[:FIELD_CHARS_MAX] + "…"
    # As in logs.py: quoting also keeps a client's text from starting a line of its own.
    return text if text.isprintable() and " " not in text and '"' not in text and text else json.dumps(text)


def _json_string(text: str) -> str:
    if len(text) > FIELD_CHARS_MAX:
        text = text[:FIELD_CHARS_MAX] + "…"
    return encode_basestring(text)
