"""Work that leaves the cores to those who serve: a replica's start beside replicas that have streams.

A thread of its own, since on Linux a niceness is a thread's, and one that was raised can be lowered by privileged
processes alone: the process, and what it forks later, keep theirs. What must not live here: the work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
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


def _yield() -> int:
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
    os.setpriority(os.PRIO_PROCESS, thread, min(niceness, NICENESS_MAX))
    return thread
