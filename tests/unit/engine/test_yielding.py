"""Work behind whoever else wants the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cluster.engine.yielding import NICENESS, NICENESS_MAX, can_stop, stop, yielding


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_work_yields_and_nothing_else_does() -> None:
    before = niceness()
    assert yielding(niceness) == min(before + NICENESS, NICENESS_MAX)
    assert niceness() == before


def test_its_thread_is_gone_afterwards() -> None:
    """For the kernel too: the warm parent forks, and must have one thread."""
    working = yielding(threading.get_native_id)
    assert working != threading.get_native_id()
    assert not Path(f"/proc/self/task/{working}").exists()


def test_what_it_raises_is_raised() -> None:
    def fails() -> None:
        raise ImportError("no module")

    with pytest.raises(ImportError, match="no module"):
        yielding(fails)


PROGRAM = """
import os, threading
os.nice(7)
threading.Thread(target=input, daemon=True).start()
print("begun", flush=True)
threading.Event().wait()
"""


def test_all_threads_of_a_process_stop() -> None:
    if not can_stop():
        pytest.skip("an unprivileged process cannot lower a niceness")
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            threads = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
            assert len(threads) == 2
            assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {niceness() + 7}
            stop([process.pid])
            assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {niceness()}
        finally:
            process.kill()


def test_a_process_that_is_gone_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    stop([process.pid])
