"""What a client process measures of itself: how late its event loop is, and how much of a core it takes.

What must not live here: what that means for a run (limits.py).
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence

from loadtest.client.alarm import Alarm

SAMPLE_S = 0.02
"""Fifty times a second: two runs of 30 s tell their p99 apart, and it costs a thousandth of a core."""
P99 = 0.99


class Health:
    """Samples one event loop."""

    def __init__(self) -> None:
        """Begin; needs the running loop."""
        self._alarm = Alarm()
        self._lag_s = array("d")
        self._wall_s = time.monotonic()
        self._cpu_s = time.process_time()
        self._sampling = asyncio.create_task(self._sample())

    async def end(self, late_s: Sequence[float]) -> dict[str, float]:
        """Stop, and say what was seen: `Run.client` of this process.

        Args:
            late_s: how much later than due each request was sent.
        """
        wall_s = max(time.monotonic() - self._wall_s, SAMPLE_S)
        cpu_s = time.process_time() - self._cpu_s
        self._sampling.cancel()
        await asyncio.wait({self._sampling})
        self._alarm.close()
        return {
            "lag_p99_s": quantile(self._lag_s, P99),
            "late_p99_s": quantile(late_s, P99),
            "cpu_ratio": cpu_s / wall_s,
        }

    async def _sample(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + SAMPLE_S, time.monotonic())
            await self._alarm.until(due_s)
            self._lag_s.append(max(time.monotonic() - due_s, 0.0))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all does not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
