"""Sends spans away from a thread of its own, so that whoever takes them slowly, or is gone, holds up no request.

What must not live here: how a sink writes or sends (file_sink.py, otlp_sink.py).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

logger = logging.getLogger(__name__)

EVERY_S = 1.0
"""Spans wait so long for others, so that a batch is worth a request."""
BATCH_SPANS = 256
QUEUE_SPANS_MAX = 8_192
"""That wait for a sink: of some 500 bytes each. Beyond it they are left out and counted."""
CLOSE_S = 2.0
"""What is left at the end has so long to leave."""
WARN_EVERY = 100
"""Of failed batches: the first, and then each hundredth, is logged."""


class Sink(Protocol):
    """Who takes spans; used by one thread alone."""

    def send(self, spans: Sequence[bytes]) -> None:
        """Take encoded spans; may wait.

        Raises:
            Exception: they are not taken.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds, at once."""
        ...


class Exporter:
    """The queue before one sink, and its thread."""

    def __init__(self, sink: Sink) -> None:
        """Start the thread.

        Args:
            sink: where spans go.
        """
        self.exported = self.failed = self.dropped = 0
        """Spans that the sink took, did not take, and that found no room in the queue."""
        self._sink = sink
        self._queue: deque[bytes] = deque()
        self._due = threading.Event()
        self._is_closing = False
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="trace-exporter", daemon=True)
        self._thread.start()

    def take(self, spans: Sequence[bytes]) -> None:
        """Queue spans; never waits, never raises."""
        if len(self._queue) + len(spans) > QUEUE_SPANS_MAX:
            self.dropped += len(spans)
            return
        self._queue.extend(spans)
        if len(self._queue) >= BATCH_SPANS:
            self._due.set()

    def close(self) -> None:
        """Send what is left, for `CLOSE_S` at most."""
        self._is_closing = True
        self._due.set()
        self._thread.join(CLOSE_S)
        self._sink.close()

    def _run(self) -> None:
        while not (self._is_closing and not self._queue):
            self._due.wait(EVERY_S)
            self._due.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH_SPANS, len(self._queue)))])

    def _send(self, spans: list[bytes]) -> None:
        try:
            self._sink.send(spans)
        except Exception as error:  # noqa: BLE001 - whatever a library raises must not end the thread
            self.failed += len(spans)
            if self._failures % WARN_EVERY == 0:
                logger.warning("spans were not taken", extra={"spans": len(spans), "error": repr(error)})
            self._failures += 1
        else:
            self.exported += len(spans)
