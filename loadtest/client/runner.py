"""Sessions at their times: open loop, each begun when it is due whatever became of the others, or so many at once.

What must not live here: bytes (rest.py, rpc.py), processes (worker.py, coordinator.py).
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.core.wire import HEADER_PRIORITY, HEADER_REQUEST_ID, HEADER_SESSION
from loadtest.client.ahead import Ahead, Ready
from loadtest.client.aim import Aim, Ask, Transport
from loadtest.client.alarm import Alarm
from loadtest.client.answer import Answer, ErrorKind, record_of
from loadtest.plan import Kind, Session
from loadtest.record import Record

FAILED_PAUSE_S = 0.1
"""In a closed loop, between a session that failed and the next: refusals come back at once, and would be asked for
thousands of times a second."""
IN_FLIGHT_MAX = 4096
"""Sessions at once in one process: as many as a gateway's worker takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When sessions begin, and when they have to be over."""

    duration_s: float = math.inf
    """No turn is due from then on."""
    concurrency: int = 0
    """Sessions at once, each followed by another; 0: open loop, by their times."""
    in_flight_max: int = IN_FLIGHT_MAX
    """Of the open loop: a session that is due over it is not sent, and its record says so."""
    drain_s: float = 60.0
    """How long answers may take after the last request was due; those that are not there then count as timeouts."""


@dataclass(slots=True)
class Counts:
    """What a run has done so far."""

    sent: int = 0
    in_flight: int = 0
    done: int = 0
    failed: int = 0


class Runner:
    """Runs one process's sessions."""

    def __init__(
        self,
        transport: Transport,
        *,
        aim: Aim,
        pace: Pace,
        name: str,
        keep: Callable[[Record], None],
        seen: Callable[[Answer], None] | None = None,
    ) -> None:
        """Prepare; needs the running loop.

        Args:
            transport: sends.
            aim: keys and time limits.
            pace: when sessions begin.
            name: of the run: request ids and session names begin with it.
            keep: gets each record.
            seen: gets each answer before, with its text.
        """
        self._transport = transport
        self._aim = aim
        self._pace = pace
        self._name = name
        self._keep = keep
        self._seen = seen
        self._alarm = Alarm()
        self._begin_s = 0.0
        self._tasks: set[asyncio.Task[object]] = set()
        self._cut = (ErrorKind.TIMEOUT, "run_ended")
        self._stopped = asyncio.Event()
        self.counts = Counts()
        self.late_s = array("d")
        """How much later than due each request was sent."""

    async def run(self, sessions: Iterator[tuple[int, Session]], begin_s: float) -> None:
        """Send everything, and wait for its answers.

        Args:
            sessions: with their numbers; of an open loop, by the time they are due.
            begin_s: when the run's time is 0, on `time.monotonic()`.

        Raises:
            Exception: what the scenario raised.
        """
        self._begin_s = begin_s
        ahead = Ahead(sessions, self._first)
        loop = asyncio.create_task(self._closed(ahead) if self._pace.concurrency else self._open(ahead))
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({loop, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not loop.done():
                loop.cancel()
            await asyncio.gather(loop, return_exceptions=not loop.done())
            await self._drain(stopped)
        finally:
            ahead.close()
            stopped.cancel()
            self._alarm.close()

    def stop(self) -> None:
        """Begin nothing more, and cut off what is under way."""
        self._cut = (ErrorKind.CLIENT, "stopped")
        self._stopped.set()

    @property
    def _end_s(self) -> float:
        return self._begin_s + self._pace.duration_s

    async def _open(self, ahead: Ahead) -> None:
        while (ready := await ahead.next()) is not None:
            due_s = self._begin_s + ready.session.at_s
            if due_s >= self._end_s:
                return
            await self._alarm.until(due_s)
            if len(self._tasks) >= self._pace.in_flight_max:
                answer = Answer(sent_s=due_s, ended_s=due_s)
                answer.fail(ErrorKind.CLIENT, "in_flight_max")
                self._record(answer, ready, 0, due_s)
            else:
                self._start(self._session(ready, due_s))

    async def _closed(self, ahead: Ahead) -> None:
        await self._alarm.until(self._begin_s)
        for _ in range(self._pace.concurrency):
            self._start(self._lane(ahead))
        if self._tasks:
            left_s = self._end_s - time.monotonic()
            await asyncio.wait(self._tasks, timeout=None if math.isinf(left_s) else max(left_s, 0.0))

    async def _lane(self, ahead: Ahead) -> None:
        while (ready := await ahead.next()) is not None:
            due_s = time.monotonic()
            if due_s >= self._end_s:
                return
            if not await self._session(ready, due_s):
                await asyncio.sleep(FAILED_PAUSE_S)

    async def _session(self, ready: Ready, due_s: float) -> bool:
        """One session; whether all its turns were answered, or could not be any more."""
        session = ready.session
        history = [("system", session.system)] if session.system else []
        request = ready.first
        for turn, told in enumerate(session.turns):
            if turn:
                request = self._transport.prepare(self._ask(ready.number, session, turn, history))
                due_s += told.think_s
                if due_s >= self._end_s:
                    return True
                await self._alarm.until(due_s)
            answer = Answer()
            await self._send(request, answer, ready, turn, due_s)
            if answer.error is not ErrorKind.NONE:
                return False
            due_s = answer.ended_s
            history += [("user", told.text), ("assistant", answer.said())]
        return True

    async def _send(self, request: object, answer: Answer, ready: Ready, turn: int, due_s: float) -> None:
        counts = self.counts
        counts.sent += 1
        counts.in_flight += 1
        self.late_s.append(time.monotonic() - due_s)
        try:
            await self._transport.send(request, answer, deadline_s=due_s + self._aim.timeout_s)
        except asyncio.CancelledError:
            answer.ended_s = time.monotonic()
            answer.fail(*self._cut)
            raise
        finally:
            counts.in_flight -= 1
            self._record(answer, ready, turn, due_s)

    def _record(self, answer: Answer, ready: Ready, turn: int, due_s: float) -> None:
        if answer.error is ErrorKind.NONE:
            self.counts.done += 1
        else:
            self.counts.failed += 1
        if self._seen is not None:
            self._seen(answer)
        self._keep(
            record_of(
                answer,
                ready.session,
                number=ready.number,
                turn=turn,
                due_s=due_s - self._begin_s,
                begin_s=self._begin_s,
            )
        )

    def _first(self, number: int, session: Session) -> object:
        return self._transport.prepare(
            self._ask(number, session, 0, [("system", session.system)] if session.system else [])
        )

    def _ask(self, number: int, session: Session, turn: int, history: list[tuple[str, str]]) -> Ask:
        told = session.turns[turn]
        is_chat = session.kind is Kind.CHAT
        key = self._aim.keys.get(session.tenant, self._aim.api_key)
        headers = {HEADER_REQUEST_ID: f"{self._name}-{number}-{turn}"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        if session.priority or self._aim.priority:
            headers[HEADER_PRIORITY] = session.priority or self._aim.priority
        if session.keeps:
            headers[HEADER_SESSION] = f"{self._name}-{number}"
        return Ask(
            kind=session.kind,
            messages=[*history, ("user", told.text)] if is_chat else [("user", told.text)],
            output_tokens=told.output_tokens,
            is_exact=session.is_exact,
            headers=headers,
            wants_text=self._seen is not None or (is_chat and turn + 1 < len(session.turns)),
        )

    def _start(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, stopped: asyncio.Task[object]) -> None:
        """Wait for what is under way, then cut off the rest."""
        over_s = time.monotonic() + self._pace.drain_s
        while self._tasks and not stopped.done() and (left_s := over_s - time.monotonic()) > 0:
            await asyncio.wait({*self._tasks, stopped}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        left = [*self._tasks]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
