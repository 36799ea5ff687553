"""Work that leaves the cores to those who serve: a replica's start beside replicas that have streams.

On Linux a niceness is a thread's, is inherited, and can be lowered again by privileged processes alone (CAP_SYS_NICE).
So imports yield in a thread of their own, which ends; an engine's processes yield while they load where they can be
told to stop. What must not live here: the work.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
NICENESS = 10
"""A tenth of the share of whoever serves, where cores are short (sched(7): 1.25 to the power of it); all where not."""
NICENESS_MAX = 19
GONE_S = 1.0
"""A thread that Python has joined has yet to leave the kernel, within microseconds where it gets a core."""


def yielding(work: Callable[[], Result]) -> Result:
    """Do the work behind whoever else wants this machine's cores; raises what it raises.

    The thread, and with it its niceness, is gone afterwards, also for the kernel: the process may fork.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="yielding") as pool:
        thread = pool.submit(_yield).result()
        working = pool.submit(work)
    until_s = time.monotonic() + GONE_S
    while Path(f"/proc/self/task/{thread}").exists() and time.monotonic() < until_s:
        time.sleep(0.001)
    return working.result()


def can_stop() -> bool:
    """Whether this process may lower a niceness, tried at a thread that ends."""

    def tries() -> bool:
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        try:
            os.setpriority(os.PRIO_PROCESS, thread, niceness - NICENESS)
        except PermissionError:
            return False
        return True

    return yielding(tries)


def stop(pids: Iterable[int]) -> None:
    """Give all threads of these processes this process's own niceness.

    Raises:
        PermissionError: `can_stop` would have said so.
    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for pid in pids:
        # A thread that was begun meanwhile has its creator's niceness, old or new.
        while found := [thread for thread in _threads(pid) if _niceness(thread) > own]:
            for thread in found:
                with contextlib.suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, thread, own)


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


def _niceness(thread: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        return os.getpriority(os.PRIO_PROCESS, thread)
    return -NICENESS_MAX


def _yield() -> int:
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
    os.setpriority(os.PRIO_PROCESS, thread, min(niceness, NICENESS_MAX))
    return thread
