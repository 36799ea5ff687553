"""Sessions made ready before they are due, in a thread: a prompt of 100,000 tokens takes longer than a token may wait.

What must not live here: sending, which sessions.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loadtest.plan import Session

AHEAD = 32
"""Sessions that wait to be due: more would only take memory, up to a megabyte each."""
SWITCH_S = 0.0005
"""How long this thread may keep the interpreter from the event loop; Python's own 5 ms would be seen in every token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A session whose first request is made."""

    number: int
    session: Session
    first: object
    """What its transport prepared."""


class Ahead:
    """Makes sessions ready, a few before they are asked for."""

    def __init__(self, sessions: Iterator[tuple[int, Session]], prepare: Callable[[int, Session], object]) -> None:
        """Begin.

        Args:
            sessions: with their numbers; used by one thread alone.
            prepare: makes the first request of one.
        """
        self._sessions = sessions
        self._prepare = prepare
        self._made: queue.Queue[Ready | BaseException | None] = queue.Queue(maxsize=AHEAD)
        self._is_over = False
        sys.setswitchinterval(SWITCH_S)
        self._thread = threading.Thread(target=self._make, name="sessions", daemon=True)
        self._thread.start()

    async def next(self) -> Ready | None:
        """The next session, None after the last.

        Raises:
            Exception: what the scenario raised.
        """
        if self._is_over:
            return None
        try:
            found = self._made.get_nowait()
        except queue.Empty:
            found = await asyncio.to_thread(self._made.get)
        if isinstance(found, BaseException):
            raise found
        self._is_over = found is None
        if found is None:
            # Others that wait in `to_thread` must hear it, too.
            self._made.put(None)
        return found

    def close(self) -> None:
        """Make no more."""
        self._is_over = True
        while True:
            try:
                self._made.get_nowait()
            except queue.Empty:
                break

    def _make(self) -> None:
        try:
            for number, session in self._sessions:
                self._made.put(Ready(number=number, session=session, first=self._prepare(number, session)))
                if self._is_over:
                    break
            self._made.put(None)
        except Exception as error:  # noqa: BLE001 - raised where it is asked for
            self._made.put(error)
