"""This machine as the bench sees it: cores, and what a tree of processes has used of CPU and memory.

What must not live here: which process goes where.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIBIBYTES_PER_MB = 1024
TREE_MAX = 10_000
"""Processes looked at below one router; a loop in what /proc says must not become a loop here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The core of engines and load, and the core of the router."""

    load: int
    router: int

    @property
    def is_shared(self) -> bool:
        """Whether this machine has only one core to give."""
        return self.load == self.router


def pick_cores() -> Cores:
    """Two cores this process may use, not two threads of one core where that can be had."""
    first, *others = sorted(os.sched_getaffinity(0))
    siblings = _siblings(first)
    apart = [core for core in others if core not in siblings]
    return Cores(load=first, router=(apart or others or [first])[0])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Within, this thread and every process it starts run on `core` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def process_tree(pid: int) -> tuple[int, ...]:
    """`pid` and everything below it that runs now."""
    found: list[int] = []
    ahead = [pid]
    while ahead and len(found) < TREE_MAX:
        current = ahead.pop()
        found.append(current)
        for tasks in Path(f"/proc/{current}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                ahead += map(int, tasks.read_text().split())
    return tuple(found)


def cpu_s(pid: int) -> float:
    """CPU seconds that a tree of processes has used so far, to the microsecond.

    The sum of the processes' CPU clocks (clock_getcpuclockid(3)): the same time that /proc/PID/stat counts as user and
    system, which is in hundredths of a second there.
    """
    return sum(map(_process_cpu_s, process_tree(pid)))


def busy_s(core: int) -> float:
    """Seconds since boot in which a core had work of anybody's, to the hundredth; 0 where the kernel does not tell."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, interrupt, soft, *_ = map(int, line.split()[1:])
            return (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")
    return 0.0


def pss_mb(pid: int) -> float:
    """Memory of a tree of processes in MB, shared pages divided among those that share them."""
    total_kib = 0
    for process in process_tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total_kib += int(line.split()[1])
    return total_kib / KIBIBYTES_PER_MB


def _process_cpu_s(pid: int) -> float:
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0
    try:
        return time.clock_gettime(clock.value)
    except OSError:  # it ended since
        return 0.0


def _siblings(core: int) -> set[int]:
    """Hardware threads of the same core, as Linux tells them (`0,4` or `0-1`); empty where it does not."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return set()
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return found
