"""A start's stages add up to the time since the process was born."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from cluster.core.start import StartStage
from cluster.engine import start_clock
from cluster.engine.start_clock import StartClock, process_age_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock says: its last entry."""
    now = [100.0]
    monkeypatch.setattr(start_clock.time, "monotonic", lambda: now[-1])
    return now


def test_stages_add_up(clock: list[float]) -> None:
    start = StartClock(age_s=4.0)
    start.ends(StartStage.PROCESS)
    clock.append(110.0)
    start.ends(StartStage.IMPORTS)
    clock.append(118.0)
    start.took(StartStage.PARENT, 3.0)
    start.ends(StartStage.ENGINE)
    assert start.stages == {"process": 4.0, "imports": 10.0, "parent": 3.0, "engine": 5.0}
    assert sum(start.stages.values()) == 118.0 - (100.0 - 4.0)


def test_the_age_is_the_processs() -> None:
    before_s = time.time()
    born_s = psutil.Process(os.getpid()).create_time()
    assert process_age_s() == pytest.approx(before_s - born_s, abs=1.0)
