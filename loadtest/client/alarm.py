"""Waking at a time to some microseconds: event loops round their own timers to milliseconds.

A timer of the kernel's (timerfd_create(2)) that the loop polls like a socket. What must not live here: what to do then.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import os
import time
from ctypes.util import find_library

CLOCK_MONOTONIC = 1
"""The clock of `time.monotonic`; the constants are those of Linux's <sys/timerfd.h>."""
TFD_NONBLOCK = os.O_NONBLOCK
TFD_CLOEXEC = os.O_CLOEXEC
TFD_TIMER_ABSTIME = 1
NANOSECONDS = 1_000_000_000
EXPIRATIONS_BYTES = 8


class _Spec(ctypes.Structure):
    """struct itimerspec: the interval, which stays 0, then when."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Waits of one event loop; on systems without such timers, as exact as the loop's own."""

    def __init__(self) -> None:
        """Prepare; needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._libc = ctypes.CDLL(find_library("c"), use_errno=True)
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._armed_s = 0.0
        """When the timer goes off next; 0: it does not."""
        self._timer = self._create()

    async def until(self, at_s: float) -> None:
        """Wait until `time.monotonic()` says `at_s`; a time that is past yields to others once."""
        left_s = at_s - time.monotonic()
        if left_s <= 0 or self._timer is None:
            await asyncio.sleep(max(left_s, 0.0))
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiting, (at_s, next(self._numbers), woken))
        self._arm()
        await woken

    def close(self) -> None:
        """Give the timer back; nobody may wait."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None

    def _create(self) -> int | None:
        create = getattr(self._libc, "timerfd_create", None)
        timer = -1 if create is None else create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if timer < 0:
            return None
        self._loop.add_reader(timer, self._ring)
        return int(timer)

    def _arm(self) -> None:
        at_s = self._waiting[0][0]
        if self._armed_s and self._armed_s <= at_s:
            return
        self._armed_s = at_s
        at_ns = max(int(at_s * NANOSECONDS), 1)
        spec = _Spec(0, 0, at_ns // NANOSECONDS, at_ns % NANOSECONDS)
        self._libc.timerfd_settime(self._timer, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)

    def _ring(self) -> None:
        assert self._timer is not None
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, EXPIRATIONS_BYTES)
        self._armed_s = 0.0
        now_s = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now_s:
            woken = heapq.heappop(self._waiting)[2]
            if not woken.done():
                woken.set_result(None)
        if self._waiting:
            self._arm()
