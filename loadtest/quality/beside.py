"""A set asked beside a load: the load client's own processes send it, and it ends when the last question is answered.

What must not live here: the questions, whether the load was enough (held.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadtest.client.coordinator import LoadTestError, Rules, arguments_of, run_load
from loadtest.client.job import Job
from loadtest.client.live import Snapshot
from loadtest.quality.asking import Told
from loadtest.record import Record, Run

OVER = "the last question was answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The load that was there."""

    run: Run
    begin_s: float
    """Its time 0, on `time.monotonic()`."""


def run_beside(job: Job, asking: Callable[[], Coroutine[Any, Any, None]]) -> Beside:
    """Send a load, and ask meanwhile: from when its first requests are under way, until all is asked.

    Args:
        job: of the load; a closed loop, so that something is under way all the time.
        asking: asks the set, in a thread of its own.

    Raises:
        LoadTestError: the load ended before all was asked, by itself or by a signal.
    """
    asker = _Asker(asking)
    begin_s = [0.0]

    def watch(now: Snapshot) -> None:
        begin_s[0] = time.monotonic() - now.elapsed_s
        if now.counts.in_flight >= job.pace.concurrency or now.counts.done:
            asker.start()

    rules = Rules()
    run = run_load(job, rules, arguments=arguments_of(job, rules), watch=watch, ending=asker.over)
    asker.check()
    if run.stopped != OVER:
        raise LoadTestError(f"the load ended before the set was asked: {run.stopped or 'it had no more to send'}")
    return Beside(run=run, begin_s=begin_s[0])


class _Asker:
    """Asks in a thread, which dies with the process: who is interrupted need not wait for an answer."""

    def __init__(self, asking: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._asking = asking
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._ask, name="questions", daemon=True)
            self._thread.start()

    def over(self) -> str:
        return OVER if self._thread is not None and not self._thread.is_alive() else ""

    def check(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _ask(self) -> None:
        try:
            asyncio.run(self._asking())
        except Exception as error:  # noqa: BLE001 - raised in the thread that waits
            self._fault = error


def with_company(told: Sequence[Told], beside: Beside) -> list[Told]:
    """The same answers, each with how many requests of the load were under way on its replica."""
    return [
        replace(
            one,
            reply=replace(one.reply, beside=sum(_met(one, record, beside.begin_s) for record in beside.run.records)),
        )
        for one in told
    ]


def _met(told: Told, record: Record, begin_s: float) -> bool:
    overlaps = begin_s + record.sent_s < told.ended_s and begin_s + record.ended_s > told.sent_s
    return overlaps and not record.error and record.replica == told.reply.replica
