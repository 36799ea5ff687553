"""Work behind whoever else wants the cores."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cluster.engine.yielding import NICENESS, NICENESS_MAX, yielding


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
