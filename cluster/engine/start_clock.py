"""The clock of a replica's start: it began to run when the replica's process was born.

What must not live here: what the stages are (cluster/core/start.py).
"""

from __future__ import annotations

import os
import time

from cluster.core.start import StartStage
from cluster.engine.orphans import identity


class StartClock:
    """Seconds by stage, of one start.

    Args:
        age_s: for how long the process runs already.
    """

    def __init__(self, *, age_s: float) -> None:
        self.stages: dict[str, float] = {}
        self._at_s = time.monotonic() - age_s

    def ends(self, stage: StartStage) -> None:
        """Whatever went by since the stage before belongs to `stage`."""
        now_s = time.monotonic()
        self.stages[stage] = now_s - self._at_s
        self._at_s = now_s

    def took(self, stage: StartStage, seconds_s: float) -> None:
        """So many seconds since the stage before belong to `stage`, and not to the next one that ends."""
        self.stages[stage] = seconds_s
        self._at_s += seconds_s


def process_age_s() -> float:
    """For how long this process runs: by the kernel's clock of starts, which nobody sets (proc_pid_stat(5))."""
    ticks = int(identity(os.getpid()).rpartition(":")[2])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
