"""Watches one engine: pings it between its steps, and gathers the evidence that cluster/core/liveness.py judges.

What must not live here: the judgement, and what happens after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from cluster.core.liveness import SUSPECT_S, Evidence, Verdict, judge

PING_PERIOD_S = 0.5
"""Twice a lease renewal's rate is not needed; the same rate keeps a lease's step age honest."""


class Vitals:
    """The running evidence about one engine.

    Args:
        ping: returns when the engine core has answered between two steps.
        processes: the engine's processes, taken once it runs; their loss is evidence.
        stall_s: the longest a step may take.
    """

    def __init__(
        self, *, ping: Callable[[], Awaitable[object]], processes: list[psutil.Process], stall_s: float
    ) -> None:
        self._ping = ping
        self._processes = processes
        self._stall_s = stall_s
        self._open: asyncio.Future[object] | None = None
        self._opened_s = 0.0
        self._answered_s = time.monotonic()
        self._cpu_s = -1.0
        self._cpu_moved_s = time.monotonic()

    @property
    def step_age_s(self) -> float:
        """Seconds since the engine last proved that its steps advance."""
        return time.monotonic() - self._answered_s

    async def look(self) -> Verdict:
        """Open or check the ping, and judge. Takes at most `PING_PERIOD_S`.

        Raises:
            Exception: whatever the ping raises: the engine says itself that it is dead.
        """
        if self._open is None:
            self._open = asyncio.ensure_future(self._ping())
            self._opened_s = time.monotonic()
        done, _ = await asyncio.wait({self._open}, timeout=PING_PERIOD_S)
        if done:
            answered, self._open = self._open, None
            await answered
            self._answered_s = time.monotonic()
        return judge(self._evidence(), stall_s=self._stall_s)

    def close(self) -> None:
        """Forget the open ping."""
        if self._open is not None:
            self._open.cancel()

    def _evidence(self) -> Evidence:
        now_s = time.monotonic()
        age_s = now_s - self._opened_s if self._open is not None else 0.0
        stopped = False
        if age_s >= SUSPECT_S:
            stopped, cpu_s = self._process_states()
            if cpu_s != self._cpu_s or any(_wants_cpu(process) for process in self._processes):
                self._cpu_s = cpu_s
                self._cpu_moved_s = now_s
        else:
            self._cpu_moved_s = now_s
        return Evidence(ping_age_s=age_s, stopped=stopped, idle_s=now_s - self._cpu_moved_s)

    def _process_states(self) -> tuple[bool, float]:
        cpu_s = 0.0
        for process in self._processes:
            try:
                if process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE}:
                    return True, cpu_s
                times = process.cpu_times()
            except psutil.Error:
                return True, cpu_s
            cpu_s += times.user + times.system
        return False, cpu_s


def _wants_cpu(process: psutil.Process) -> bool:
    """Whether a thread of it would run if it got a core (state R of proc_pid_stat(5)).

    On a node whose cores others take, an engine may use none for longer than a frozen one is given; it is not frozen.
    """
    with contextlib.suppress(OSError):  # the process has ended meanwhile
        return any(_state(thread) == "R" for thread in Path(f"/proc/{process.pid}/task").iterdir())
    return False


def _state(thread: Path) -> str:
    """Of a thread below /proc; empty where it has ended."""
    with contextlib.suppress(OSError):
        # The name before the state is in brackets, and may hold anything.
        return (thread / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    return ""
