"""Sessions made ready before they are due, in a thread: a prompt of 100,000 tokens takes longer than a token may wait.

What must not live here: sending, which sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
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
        """Begin; needs the running loop.

        Args:
            sessions: with their numbers; used by one thread alone.
            prepare: makes the first request of one.
        """
        self._sessions = sessions
        self._prepare = prepare
        self._loop = asyncio.get_running_loop()
        self._made: deque[Ready] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._news = asyncio.Event()
        self._is_over = False
        self._fault: Exception | None = None
        sys.setswitchinterval(SWITCH_S)
        threading.Thread(target=self._make, name="sessions", daemon=True).start()

    async def next(self) -> Ready | None:
        """The next session, None after the last; several tasks may wait for one.

        Raises:
            Exception: what the scenario raised.
        """
        while not self._made:
            if self._fault is not None:
                raise self._fault
            if self._is_over:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.release()
        return self._made.popleft()

    def close(self) -> None:
        """Make no more."""
        self._end(None)
        self._made.clear()
        self._room.release()

    def _make(self) -> None:
        fault: Exception | None = None
        try:
            for number, session in self._sessions:
                made = Ready(number=number, session=session, first=self._prepare(number, session))
                self._room.acquire()
                if self._is_over:
                    return
                self._made.append(made)
                self._tell(self._news.set)
        except Exception as error:  # noqa: BLE001 - raised where sessions are asked for
            fault = error
        # In the loop's own turn: whatever was made before is there by then.
        self._tell(lambda: self._end(fault))

    def _end(self, fault: Exception | None) -> None:
        self._fault = self._fault or fault
        self._is_over = True
        self._news.set()

    def _tell(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(what)
